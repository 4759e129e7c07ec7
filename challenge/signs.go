package challenge

import (
	"bytes"
	"crypto/rand"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"unicode"

	"github.com/mojocn/base64Captcha"
	"golang.org/x/text/language"
)

// What is drawn and spoken. Letters and digits that look alike in one of the fonts (0 and O,
// 1, I and L, 2 and Z, 5 and S, 6 and G, 8 and B, U and V) are left out.
const (
	letters = "ACEFHJKMNPRTWXY3479"
	digits  = "0123456789"
	// Nineteen letters to the power of five are two million guesses, six digits a million, and
	// there is one.
	pictureLength   = 5
	recordingLength = 6

	// Of the picture, in pixels.
	width, height = 300, 100
)

// signs are n signs of an alphabet. They are not the library's own: it draws from
// math/rand, which it seeds with the time of the start.
func signs(alphabet string, n int) string {
	text := make([]byte, n)
	for i := range text {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		text[i] = alphabet[k.Int64()]
	}
	return string(text)
}

// typed is what somebody has typed as it is compared: case and spaces do not matter.
func typed(answer string) string {
	return strings.ToUpper(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, answer))
}

// fonts are those of the library that people can read.
var fonts = []string{"3Dumb.ttf", "ApothecaryFont.ttf", "DENNEthree-dee.ttf", "Flim-Flam.ttf", "RitaSmith.ttf", "actionj.ttf", "chromohv.ttf"}

var pictures = base64Captcha.NewDriverString(height, width, 0, 0, pictureLength, letters, &color.RGBA{R: 255, G: 255, B: 255, A: 255}, nil, fonts)

// draw makes a PNG of a text. The library places letters of several fonts and sizes, each
// in a colour of its own, which would tell a program where one ends, and is too light
// for people now and then. So all get one ink, are bent, and lines of the same ink
// as thick as theirs are drawn across.
func draw(text string) ([]byte, error) {
	item, err := pictures.DrawCaptcha(text)
	if err != nil {
		return nil, err
	}
	var drawn bytes.Buffer
	if _, err := item.WriteTo(&drawn); err != nil {
		return nil, err
	}
	from, err := png.Decode(&drawn)
	if err != nil {
		return nil, err
	}
	ink := func(x, y int) uint8 { // from 0, paper, to 255
		if !image.Pt(x, y).In(from.Bounds()) {
			return 0
		}
		c := color.NRGBAModel.Convert(from.At(x, y)).(color.NRGBA)
		return uint8(min(255, 5*(255-int(min(c.R, c.G, c.B)))))
	}
	across, down := wave(6, 60, 110), wave(4, 40, 80)
	lines := []func(float64) float64{wave(25, 150, 300), wave(25, 90, 200), wave(30, 200, 400)}
	bent := image.NewGray(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			v := ink(x+int(down(float64(y))), y+int(across(float64(x))))
			for i, line := range lines {
				middle := height/4*float64(i+1) + line(float64(x))
				if math.Abs(float64(y)-middle) < 1.2 {
					v = 255
				}
			}
			if mathrand.IntN(60) == 0 {
				v = 255 - v
			}
			bent.SetGray(x, y, color.Gray{Y: 255 - v})
		}
	}
	var b bytes.Buffer
	err = png.Encode(&b, bent)
	return b.Bytes(), err
}

// wave is a sine of some height, of a length in a range, that begins anywhere.
func wave(height, shortest, longest float64) func(float64) float64 {
	length := shortest + mathrand.Float64()*(longest-shortest)
	start := mathrand.Float64() * 2 * math.Pi
	height *= 0.6 + 0.4*mathrand.Float64()
	return func(x float64) float64 { return height * math.Sin(start+2*math.Pi*x/length) }
}

// spoken are the languages that the library has recordings in; the first is for all others.
var spoken = []language.Tag{language.English, language.German, language.Russian, language.Chinese, language.Japanese}

var speakers = language.NewMatcher(spoken)

// speak makes a WAV of digits: 8 kHz, 8 bits, mono, some 20 seconds.
func speak(text, lang string) ([]byte, error) {
	_, i := language.MatchStrings(speakers, lang)
	item, err := base64Captcha.NewDriverAudio(recordingLength, spoken[i].String()).DrawCaptcha(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = item.WriteTo(&b)
	return b.Bytes(), err
}
