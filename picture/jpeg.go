package picture

import (
	"bytes"
	"encoding/binary"
)

// jpegHead is what a JPEG file says of itself beside its pixels.
type jpegHead struct {
	orientation int
	// scans is how many passes over the pixels there are.
	scans int
	// pixel is how many bytes one takes while it is decoded, of the heaviest frame if there
	// are several: decoders refuse the second only when they come to it.
	pixel float64
}

// Markers of JPEG (ITU-T T.81, table B.1).
const (
	markerSOF0, markerSOF2 = 0xc0, 0xc2 // frames: baseline, progressive
	markerRST0, markerRST7 = 0xd0, 0xd7
	markerSOI, markerEOI   = 0xd8, 0xd9
	markerSOS              = 0xda
	markerAPP1             = 0xe1
)

// readJPEG walks over the segments of a file. What is wrong with them is for the decoder
// to say.
func readJPEG(data []byte) jpegHead {
	h := jpegHead{orientation: 1, pixel: 4}
	for i := 2; i+3 < len(data); {
		marker := data[i+1]
		switch {
		case data[i] != 0xff, marker == 0, marker == 0xff, marker == markerSOI, marker >= markerRST0 && marker <= markerRST7:
			i++ // compressed data, or nothing
			continue
		case marker == markerEOI:
			return h
		}
		end := i + 2 + int(binary.BigEndian.Uint16(data[i+2:]))
		segment := data[min(i+4, len(data)):max(min(i+4, len(data)), min(end, len(data)))]
		switch {
		case marker == markerSOS:
			h.scans++
		case marker >= markerSOF0 && marker <= markerSOF2:
			h.pixel = max(h.pixel, framePixel(segment, marker == markerSOF2))
		case marker == markerAPP1 && h.scans == 0:
			if o := exifOrientation(segment); o != 0 {
				h.orientation = o
			}
		}
		i = max(end, i+2)
	}
	return h
}

// framePixel is how many bytes a pixel of a frame takes: the samples of its components, of
// a progressive one their coefficients as well, and other colours that they are turned into.
func framePixel(frame []byte, progressive bool) float64 {
	const first, each = 6, 3 // where components begin, and their length
	var samples, most int
	for i := first; i+each <= len(frame); i += each {
		n := int(frame[i+1]>>4) * int(frame[i+1]&15)
		samples, most = samples+n, max(most, n)
	}
	pixel := float64(samples) / float64(max(most, 1))
	if progressive {
		pixel *= 5
	}
	return pixel + 4
}

// exifOrientation is how the camera was held, 1 to 8, or 0 if that is not said (Exif 2.32,
// 4.6.4; TIFF 6.0, section 2).
func exifOrientation(segment []byte) int {
	tiff, ok := bytes.CutPrefix(segment, []byte("Exif\x00\x00"))
	if !ok || len(tiff) < 8 {
		return 0
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch string(tiff[:4]) {
	case "MM\x00\x2a":
		order = binary.BigEndian
	case "II\x2a\x00":
	default:
		return 0
	}
	const tag, short, entry = 0x0112, 3, 12
	at := uint64(order.Uint32(tiff[4:]))
	if at+2 > uint64(len(tiff)) {
		return 0
	}
	entries := tiff[at+2:]
	for n := order.Uint16(tiff[at:]); n > 0 && len(entries) >= entry; n-- {
		if order.Uint16(entries) == tag && order.Uint16(entries[2:]) == short {
			if o := int(order.Uint16(entries[8:])); o >= 1 && o <= 8 {
				return o
			}
			return 0
		}
		entries = entries[entry:]
	}
	return 0
}
