package static

import (
	"math"
	"strconv"
)

// channel is the linear light of one byte of a colour in hexadecimal (WCAG 2.2, relative luminance).
func channel(hex string) float64 {
	n, err := strconv.ParseUint(hex, 16, 8)
	if err != nil {
		panic(err)
	}
	c := float64(n) / 255
	if c <= 0.04045 {
		return c / 12.92
	}
	return math.Pow((c+0.055)/1.055, 2.4)
}

func contrast(a, b [3]float64) float64 {
	light := func(c [3]float64) float64 { return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2] }
	x, y := light(a), light(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}
