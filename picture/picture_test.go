package picture

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	red    = color.RGBA{R: 200, A: 255}
	green  = color.RGBA{G: 200, A: 255}
	blue   = color.RGBA{B: 200, A: 255}
	yellow = color.RGBA{R: 200, G: 200, A: 255}
	clear  = color.RGBA{}
)

// quarters is a picture with a colour in each quarter of the square in its middle: top left,
// top right, bottom left, bottom right. What is beside the square is white.
func quarters(w, h int, colours ...color.RGBA) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	side := min(w, h)
	left, top := (w-side)/2, (h-side)/2
	for y := range h {
		for x := range w {
			c := color.RGBA{255, 255, 255, 255}
			if x >= left && x < left+side && y >= top && y < top+side {
				i := 0
				if x >= w/2 {
					i = 1
				}
				if y >= h/2 {
					i += 2
				}
				c = colours[i]
			}
			m.SetRGBA(x, y, c)
		}
	}
	return m
}

func asPNG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJPEG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// asGIF has a frame for each picture.
func asGIF(t testing.TB, pictures ...image.Image) []byte {
	t.Helper()
	palette := color.Palette{red, green, blue, yellow, color.White, clear}
	var all gif.GIF
	for _, m := range pictures {
		frame := image.NewPaletted(m.Bounds(), palette)
		for y := range m.Bounds().Dy() {
			for x := range m.Bounds().Dx() {
				frame.Set(x, y, m.At(x, y))
			}
		}
		all.Image, all.Delay = append(all.Image, frame), append(all.Delay, 1)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, &all); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// asWebP is a lossless WebP picture of one colour: all of its prefix codes have one symbol,
// so that however large it is no pixel takes a bit.
func asWebP(w, h int, c color.RGBA) []byte {
	var bits []byte
	n := 0
	put := func(value, count int) {
		for i := range count {
			if n%8 == 0 {
				bits = append(bits, 0)
			}
			bits[n/8] |= byte(value>>i&1) << (n % 8)
			n++
		}
	}
	put(0x2f, 8)
	put(w-1, 14)
	put(h-1, 14)
	put(1, 1)                                                         // alpha
	put(0, 3+1+1+1)                                                   // version; no transform, no cache, no groups of codes
	for _, symbol := range []uint8{c.G, c.R, c.B, c.A, 0 /* far */} { // each a simple code of one symbol of eight bits
		put(1, 1)
		put(0, 1)
		put(1, 1)
		put(int(symbol), 8)
	}
	if len(bits)%2 == 1 {
		bits = append(bits, 0)
	}
	return riff("VP8L", bits)
}

func riff(chunk string, data []byte) []byte {
	body := append([]byte("WEBP"+chunk), binary.LittleEndian.AppendUint32(nil, uint32(len(data)))...)
	body = append(body, data...)
	return append(append([]byte("RIFF"), binary.LittleEndian.AppendUint32(nil, uint32(len(body)))...), body...)
}

// withExif puts the way the camera was held, and where it was, into a JPEG file.
func withExif(file []byte, order binary.AppendByteOrder, orientation int) []byte {
	tiff := []byte("II")
	if order == binary.AppendByteOrder(binary.BigEndian) {
		tiff = []byte("MM")
	}
	tiff = order.AppendUint16(tiff, 42)
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 2)
	for _, e := range [][2]uint16{{0x010e, 7}, {0x0112, uint16(orientation)}} { // some other entry first
		tiff = order.AppendUint16(order.AppendUint16(tiff, e[0]), 3)
		tiff = order.AppendUint16(order.AppendUint16(order.AppendUint32(tiff, 1), e[1]), 0)
	}
	return withSegment(file, 0xe1, append([]byte("Exif\x00\x00"), append(tiff, "51.54N 9.93E"...)...))
}

func withSegment(file []byte, marker byte, data []byte) []byte {
	segment := binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(len(data)+2))
	return bytes.Join([][]byte{file[:2], segment, data, file[2:]}, nil)
}

func pngChunk(kind string, data []byte) []byte {
	body := append([]byte(kind), data...)
	chunk := append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), body...)
	return binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(body))
}

// pngHead is a PNG file up to its pixels.
func pngHead(w, h uint32, depth, colours, interlace byte) []byte {
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)
	return append([]byte("\x89PNG\r\n\x1a\n"), pngChunk("IHDR", append(head, depth, colours, 0, 0, interlace))...)
}

func zeros(t testing.TB, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := io.CopyN(z, zeroReader{}, n); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { return copy(p, make([]byte, len(p))), nil }

// decoded is a size of a picture, which must be of the type that it says.
func decoded(t testing.TB, mediaType string, data []byte) image.Image {
	t.Helper()
	m, format, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if "image/"+format != mediaType {
		t.Errorf("a picture of type %s is %s", mediaType, format)
	}
	return m
}

// sameQuarters fails unless a picture has these colours in its quarters, more or less.
func sameQuarters(t testing.TB, m image.Image, want ...color.RGBA) {
	t.Helper()
	n := m.Bounds().Dx()
	if m.Bounds().Dy() != n {
		t.Fatalf("not a square: %v", m.Bounds())
	}
	for i, at := range []image.Point{{n / 4, n / 4}, {3 * n / 4, n / 4}, {n / 4, 3 * n / 4}, {3 * n / 4, 3 * n / 4}} {
		r, g, b, a := m.At(at.X, at.Y).RGBA()
		got := []int{int(r >> 8), int(g >> 8), int(b >> 8), int(a >> 8)}
		for j, v := range []uint8{want[i].R, want[i].G, want[i].B, want[i].A} {
			if d := got[j] - int(v); d < -12 || d > 12 {
				t.Errorf("quarter %d is %v, want %v", i, got, want[i])
				break
			}
		}
	}
}

func TestMake(t *testing.T) {
	wide, tall := quarters(900, 600, red, green, blue, yellow), quarters(300, 1100, red, green, blue, yellow)
	little := quarters(64, 64, red, green, blue, yellow)
	hole := quarters(700, 700, red, clear, blue, yellow)
	other := quarters(900, 600, blue, blue, blue, blue)
	for _, tc := range []struct {
		name         string
		file         []byte
		want         string
		large, small int
		corners      []color.RGBA
	}{
		{"wide JPEG", asJPEG(t, wide), "image/jpeg", 512, 96, []color.RGBA{red, green, blue, yellow}},
		{"tall PNG", asPNG(t, tall), "image/jpeg", 300, 96, []color.RGBA{red, green, blue, yellow}},
		{"little PNG", asPNG(t, little), "image/jpeg", 64, 64, []color.RGBA{red, green, blue, yellow}},
		{"PNG that shows through", asPNG(t, hole), "image/png", 512, 96, []color.RGBA{red, clear, blue, yellow}},
		{"first of a GIF", asGIF(t, wide, other, other), "image/jpeg", 512, 96, []color.RGBA{red, green, blue, yellow}},
		{"WebP", asWebP(640, 700, yellow), "image/jpeg", 512, 96, []color.RGBA{yellow, yellow, yellow, yellow}},
		{"WebP that shows through", asWebP(64, 64, color.RGBA{}), "image/png", 64, 64, []color.RGBA{clear, clear, clear, clear}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := NewMaker().Make(t.Context(), bytes.NewReader(tc.file))
			if err != nil {
				t.Fatal(err)
			}
			if p.Type != tc.want {
				t.Errorf("type %s, want %s", p.Type, tc.want)
			}
			large, small := decoded(t, p.Type, p.Large), decoded(t, p.Type, p.Small)
			if large.Bounds().Dx() != tc.large || small.Bounds().Dx() != tc.small {
				t.Errorf("sizes %v and %v", large.Bounds(), small.Bounds())
			}
			sameQuarters(t, large, tc.corners...)
			sameQuarters(t, small, tc.corners...)
		})
	}
}

// What the camera has noted about how it was held is heeded, and nothing of it is kept.
func TestExif(t *testing.T) {
	for orientation, want := range map[int][]color.RGBA{
		0: {red, green, blue, yellow}, 1: {red, green, blue, yellow}, 9: {red, green, blue, yellow},
		2: {green, red, yellow, blue}, 3: {yellow, blue, green, red}, 4: {blue, yellow, red, green}, 5: {red, blue, green, yellow},
		6: {blue, red, yellow, green}, 7: {yellow, green, blue, red}, 8: {green, yellow, red, blue},
	} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			t.Run(fmt.Sprint(orientation, " ", order), func(t *testing.T) {
				file := withExif(asJPEG(t, quarters(400, 300, red, green, blue, yellow)), order, orientation)
				p, err := NewMaker().Make(t.Context(), bytes.NewReader(file))
				if err != nil {
					t.Fatal(err)
				}
				sameQuarters(t, decoded(t, p.Type, p.Large), want...)
				for _, size := range [][]byte{p.Large, p.Small} {
					if bytes.Contains(size, []byte("Exif")) || bytes.Contains(size, []byte("51.54N")) {
						t.Error("metadata are still there")
					}
				}
			})
		}
	}
}

// A file that is a page at the same time is a picture afterwards, and no page.
func TestPolyglot(t *testing.T) {
	page := "<!doctype html><script>alert(document.domain)</script>"
	for name, file := range map[string][]byte{
		"JPEG": append(withSegment(asJPEG(t, quarters(50, 50, red, green, blue, yellow)), 0xfe, []byte(page)), page...),
		"PNG":  append(asPNG(t, quarters(50, 50, red, clear, blue, yellow)), page...),
		"GIF":  append(asGIF(t, quarters(50, 50, red, green, blue, yellow)), page...),
	} {
		p, err := NewMaker().Make(t.Context(), bytes.NewReader(file))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if bytes.Contains(p.Large, []byte("script")) || bytes.Contains(p.Small, []byte("script")) {
			t.Errorf("%s: the page is still in it", name)
		}
	}
}

// scans is a progressive JPEG of one colour component with many passes over its pixels.
func scans(w, h uint16, n int) []byte {
	b := []byte("\xff\xd8\xff\xdb\x00\x43\x00")
	b = append(b, bytes.Repeat([]byte{1}, 64)...)
	b = append(b, 0xff, 0xc2, 0, 11, 8, byte(h>>8), byte(h), byte(w>>8), byte(w), 1, 1, 0x11, 0)
	b = append(b, 0xff, 0xc4, 0, 20, 0, 1) // a code of one bit
	b = append(b, make([]byte, 15)...)
	b = append(b, 0)
	for range n {
		b = append(b, 0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0)
	}
	return append(b, 0xff, 0xd9)
}

// Bombs and scrap are refused, with an error that stays, and before they have cost anything.
func TestRefused(t *testing.T) {
	small := quarters(64, 64, red, green, blue, yellow)
	huge := pngHead(50_000, 50_000, 8, 6, 0)
	gifBomb := asGIF(t, small)
	copy(gifBomb[6:10], "\xff\xff\xff\xff") // the screen that its frames are on
	jpegBomb := asJPEG(t, small)
	frame := bytes.Index(jpegBomb, []byte("\xff\xc0"))
	copy(jpegBomb[frame+5:], "\xff\xff\xff\xff")
	lying := riff("VP8X", append([]byte("\x00\x00\x00\x00\x09\x00\x00\x09\x00\x00"), asWebP(16384, 16384, red)[12:]...))
	binary.LittleEndian.PutUint32(lying[16:], 10)
	for _, tc := range []struct {
		name string
		file []byte
		want error
	}{
		{"nothing", nil, ErrFormat},
		{"text", []byte("hello"), ErrFormat},
		{"page", []byte("<!doctype html><title>x</title>"), ErrFormat},
		{"SVG", []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), ErrFormat},
		{"TIFF", []byte("II*\x00\x08\x00\x00\x00"), ErrFormat},
		{"too many bytes", append(asPNG(t, small), make([]byte, MaxUpload)...), ErrBytes},
		{"PNG of huge dimensions", append(huge, pngChunk("IDAT", zeros(t, 1<<20))...), ErrPixels},
		{"PNG as wide as can be", pngHead(1<<31-1, 1, 8, 6, 0), ErrPixels},
		{"PNG that takes more than its size", pngHead(6300, 6300, 16, 6, 1), ErrPixels},
		{"PNG of no height", pngHead(5, 0, 8, 6, 0), ErrDamaged},
		{"PNG with more pixels than it says", bytes.Join([][]byte{pngHead(10, 10, 8, 2, 0), pngChunk("IDAT", zeros(t, 64<<20)), pngChunk("IEND", nil)}, nil), ErrDamaged},
		{"JPEG of huge dimensions", jpegBomb, ErrPixels},
		{"JPEG with thousands of scans", scans(4000, 4000, 10_000), ErrPixels},
		{"GIF of huge dimensions", gifBomb, ErrPixels},
		{"WebP of huge dimensions", asWebP(16384, 16384, red), ErrPixels},
		{"WebP that lies about its dimensions", lying, ErrDamaged},
		{"half a PNG", asPNG(t, small)[:100], ErrDamaged},
		{"half a JPEG", asJPEG(t, small)[:500], ErrDamaged},
		{"half a GIF", asGIF(t, small)[:60], ErrDamaged},
		{"half a WebP", asWebP(64, 64, red)[:20], ErrDamaged},
		{"beginning of a JPEG", []byte("\xff\xd8\xff"), ErrDamaged},
		{"beginning of a GIF", []byte("GIF89a"), ErrDamaged},
		{"Exif that leads outside", withSegment([]byte("\xff\xd8\xff\xd9"), 0xe1, []byte("Exif\x00\x00II*\x00\xff\xff\xff\xff")), ErrDamaged},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewMaker().Make(t.Context(), bytes.NewReader(tc.file))
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// A second frame, which decoders refuse only once the pixels of the first have their memory,
// does not make that one lighter.
func TestHeaviestFrame(t *testing.T) {
	file := scans(4000, 4000, 1)
	want, err := look(file)
	if err != nil {
		t.Fatal(err)
	}
	light := []byte{0xff, 0xc0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0}
	got, err := look(slices.Concat(file[:len(file)-2], light, file[len(file)-2:]))
	if err != nil {
		t.Fatal(err)
	}
	if got.weight < want.weight {
		t.Errorf("%d bytes are set aside, want %d", got.weight, want.weight)
	}
}

// A GIF with thousands of frames costs what its first frame does; what comes in chunks that
// no picture needs is not unpacked.
func TestCheap(t *testing.T) {
	small := quarters(64, 64, red, green, blue, yellow)
	frames := make([]image.Image, 3000)
	for i := range frames {
		frames[i] = small
	}
	bomb := asPNG(t, small)
	bomb = bytes.Join([][]byte{bomb[:33], pngChunk("zTXt", append([]byte("x\x00\x00"), zeros(t, 256<<20)...)), bomb[33:]}, nil)
	for name, file := range map[string][]byte{"GIF": asGIF(t, frames...), "PNG": bomb} {
		if len(file) > MaxUpload {
			t.Fatalf("%s: %d bytes", name, len(file))
		}
		cost := testing.AllocsPerRun(1, func() {
			p, err := NewMaker().Make(t.Context(), bytes.NewReader(file))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			sameQuarters(t, decoded(t, p.Type, p.Large), red, green, blue, yellow)
		})
		if cost > 30_000 {
			t.Errorf("%s: %v allocations", name, cost)
		}
	}
}

// All uploads together have one bound of memory; who waits too long is told so.
func TestOneBoundForAll(t *testing.T) {
	m := NewMaker()
	if !m.free.TryAcquire(memory) {
		t.Fatal("memory is taken")
	}
	file := asPNG(t, quarters(64, 64, red, green, blue, yellow))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Make(ctx, bytes.NewReader(file)); !errors.Is(err, ErrBusy) {
		t.Fatalf("got %v, want %v", err, ErrBusy)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := m.Make(t.Context(), bytes.NewReader(file)); err != nil {
				t.Error(err)
			}
		})
	}
	m.free.Release(memory)
	wg.Wait()
	// What was refused has left nothing behind either.
	if _, err := m.Make(t.Context(), bytes.NewReader(file[:100])); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if !m.free.TryAcquire(memory) {
		t.Error("memory was not given back")
	}
}

// A decoder that is kept busy fails at the next piece once its time is over.
func TestDecodersEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &reader{ctx: ctx, data: make([]byte, 4096)}
	n, err := r.Read(make([]byte, 4096))
	if err != nil || n == 4096 {
		t.Fatalf("%d bytes at once: %v", n, err)
	}
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := NewMaker().Make(t.Context(), io.MultiReader(strings.NewReader("GIF8"), brokenReader{})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an upload that breaks off: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func FuzzMake(f *testing.F) {
	small := quarters(12, 9, red, green, blue, yellow)
	f.Add(withExif(asJPEG(f, small), binary.BigEndian, 6))
	f.Add(asPNG(f, small))
	f.Add(asGIF(f, small, small))
	f.Add(asWebP(12, 9, red))
	f.Add(scans(16, 16, 3))
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := NewMaker().Make(t.Context(), bytes.NewReader(file))
		if err != nil {
			for _, known := range []error{ErrFormat, ErrBytes, ErrPixels, ErrDamaged} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("an error of no kind: %v", err)
		}
		for _, size := range [][]byte{p.Large, p.Small} {
			m := decoded(t, p.Type, size)
			if b := m.Bounds(); b.Dx() != b.Dy() || b.Dx() > Large {
				t.Errorf("made %v", b)
			}
		}
	})
}
