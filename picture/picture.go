// Package picture is the pictures of people. What somebody uploads is decoded, cropped to a
// square, scaled and encoded anew, so that nothing but pixels is left of it: no place where
// it was taken, no file of another kind that it is at the same time.
//
// Decoders are where an upload can hurt. What a file says of itself is looked at first, and
// the memory that its pixels may take is set aside before they are read, so that all uploads
// together have no more than one bound.
package picture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"time"

	"golang.org/x/image/draw"
	"golang.org/x/image/webp"
	"golang.org/x/sync/semaphore"
)

// Limits of what is taken.
const (
	// MaxUpload is how many bytes a file may have.
	MaxUpload = 5 << 20
	// MaxPixels is how many pixels a picture may have.
	MaxPixels = 40_000_000
	// Large and Small are the lengths of the edges that pictures are kept in. One that is
	// smaller is not made larger.
	Large, Small = 512, 96
)

// memory is how many bytes all pictures that are decoded at one moment may take, and
// patience how long one may take to be decoded; a large one takes a second or two.
const (
	memory   = 400 << 20
	patience = 20 * time.Second
)

// maxScans is how many passes over its pixels a JPEG file may make. Programs write about ten.
const maxScans = 64

// Errors of Make, possibly wrapped.
var (
	// ErrFormat: the file is of no format that is known here.
	ErrFormat = errors.New("not a JPEG, PNG, GIF or WebP picture")
	// ErrBytes: the file has more than MaxUpload bytes.
	ErrBytes = errors.New("the file is too large")
	// ErrPixels: the picture has more than MaxPixels pixels, or takes more to decode than
	// pictures of that size do.
	ErrPixels = errors.New("the picture has too many pixels")
	// ErrDamaged: the file cannot be decoded.
	ErrDamaged = errors.New("the picture is damaged")
	// ErrBusy: others' pictures have taken all memory for as long as the caller would wait.
	ErrBusy = errors.New("too many pictures at once")
)

// Picture is a square picture in two sizes, which both have the same media type: image/jpeg,
// or image/png if something shows through.
type Picture struct {
	Type         string
	Large, Small []byte
}

// Maker makes pictures of uploads. It is safe for concurrent use.
type Maker struct{ free *semaphore.Weighted }

// NewMaker returns a Maker with the memory that all its callers share.
func NewMaker() *Maker { return &Maker{free: semaphore.NewWeighted(memory)} }

// Make reads a file and makes a picture of it; of a GIF its first. It waits for memory
// until ctx ends.
func (m *Maker) Make(ctx context.Context, r io.Reader) (Picture, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxUpload+1))
	if err != nil {
		return Picture{}, err
	}
	if len(data) > MaxUpload {
		return Picture{}, ErrBytes
	}
	f, err := look(data)
	if err != nil {
		return Picture{}, err
	}
	if f.weight > memory {
		return Picture{}, fmt.Errorf("%w: %d bytes to decode", ErrPixels, f.weight)
	}
	if err := m.free.Acquire(ctx, f.weight); err != nil {
		return Picture{}, errors.Join(ErrBusy, err)
	}
	defer m.free.Release(f.weight)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	whole, err := f.decode(&reader{ctx: ctx, data: data})
	if err != nil {
		return Picture{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	// A decoder may know better than what the file has said of itself.
	if b := whole.Bounds(); b.Empty() || b.Dx()*b.Dy() > MaxPixels {
		return Picture{}, ErrDamaged
	}
	large := turned(square(whole, Large), f.orientation)
	return encode(large, square(large, Small))
}

// reader hands out a file in small pieces until its context ends: a decoder that is kept
// busy for too long fails at the next one.
type reader struct {
	ctx  context.Context
	data []byte
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 512)], r.data)
	r.data = r.data[n:]
	return n, nil
}

// file is what a file says of itself, before any pixel of it is decoded.
type file struct {
	// weight is how many bytes decoding and scaling take at most.
	weight int64
	decode func(io.Reader) (image.Image, error)
	// orientation is how the camera was held, as Exif has it: 1 to 8.
	orientation int
}

// tables is what the prefix codes of a lossless WebP may take beside its pixels: 65536
// groups of five.
const tables = 192 << 20

// look finds out of which format a file is, and what it takes to decode it.
func look(data []byte) (file, error) {
	f := file{orientation: 1}
	var config func(io.Reader) (image.Config, error)
	var pixel float64 // bytes for each
	var beside int64
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		h := readJPEG(data)
		if h.scans > maxScans {
			return f, fmt.Errorf("%w: %d scans", ErrPixels, h.scans)
		}
		config, f.decode, f.orientation, pixel = jpeg.DecodeConfig, jpeg.Decode, h.orientation, h.pixel
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		config, f.decode, pixel = png.DecodeConfig, png.Decode, pngPixel(data)
	case bytes.HasPrefix(data, []byte("GIF8")):
		config, f.decode, pixel = gif.DecodeConfig, gif.Decode, 1
	case len(data) >= 16 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		config, f.decode, pixel = webp.DecodeConfig, webp.Decode, 2
		if string(data[12:16]) != "VP8 " { // its alpha is compressed without loss, if not all of it
			pixel, beside = 8, tables
		}
	default:
		return f, ErrFormat
	}
	c, err := config(bytes.NewReader(data))
	switch {
	case err != nil:
		return f, fmt.Errorf("%w: %w", ErrDamaged, err)
	case c.Width <= 0 || c.Height <= 0:
		return f, ErrDamaged
	case c.Width > MaxPixels/c.Height:
		return f, ErrPixels
	}
	f.weight = int64(float64(c.Width*c.Height)*pixel) + beside
	// Scaling keeps each line in its new width, as four numbers for each pixel.
	f.weight += int64(min(c.Width, c.Height)) * Large * 32
	return f, nil
}

// pngPixel is how many bytes a pixel of a PNG file takes (RFC 2083, 4.1.1).
func pngPixel(data []byte) float64 {
	const depth, interlace = 24, 28 // places in the file
	pixel := 4.0
	if len(data) > interlace && data[depth] == 16 {
		pixel = 8
	}
	if len(data) > interlace && data[interlace] != 0 {
		pixel *= 1.5 // passes are pictures of their own, the last has half of all lines
	}
	return pixel
}

// square is the middle of a picture, no larger than edge.
func square(src image.Image, edge int) *image.RGBA {
	b := src.Bounds()
	side := min(b.Dx(), b.Dy())
	at := b.Min.Add(image.Pt((b.Dx()-side)/2, (b.Dy()-side)/2))
	edge = min(edge, side)
	dst := image.NewRGBA(image.Rect(0, 0, edge, edge))
	draw.CatmullRom.Scale(dst, dst.Bounds(), src, image.Rectangle{Min: at, Max: at.Add(image.Pt(side, side))}, draw.Src, nil)
	return dst
}

// turned is a square picture the way up that it was taken.
func turned(src *image.RGBA, orientation int) *image.RGBA {
	if orientation <= 1 || orientation > 8 {
		return src
	}
	n := src.Bounds().Dx()
	dst := image.NewRGBA(src.Bounds())
	for y := range n {
		for x := range n {
			back := n - 1
			var from image.Point
			switch orientation {
			case 2:
				from = image.Pt(back-x, y)
			case 3:
				from = image.Pt(back-x, back-y)
			case 4:
				from = image.Pt(x, back-y)
			case 5:
				from = image.Pt(y, x)
			case 6:
				from = image.Pt(y, back-x)
			case 7:
				from = image.Pt(back-y, back-x)
			case 8:
				from = image.Pt(back-y, x)
			}
			dst.SetRGBA(x, y, src.RGBAAt(from.X, from.Y))
		}
	}
	return dst
}

func encode(large, small *image.RGBA) (Picture, error) {
	p := Picture{Type: "image/jpeg"}
	write := func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, &jpeg.Options{Quality: 85}) }
	if !large.Opaque() {
		p.Type, write = "image/png", png.Encode
	}
	var l, s bytes.Buffer
	if err := errors.Join(write(&l, large), write(&s, small)); err != nil {
		return Picture{}, err
	}
	p.Large, p.Small = l.Bytes(), s.Bytes()
	return p, nil
}
