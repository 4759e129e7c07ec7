package main

import "testing"

func TestWave(t *testing.T) {
	w := wave{least: 10}
	for i, look := range []struct {
		now  int
		over bool
	}{
		{0, false}, {5, false}, {5, false}, // too few
		{10, false}, {30, false}, {30, true}, {30, false}, // rises, rests, and is told once
		{39, false}, {39, false}, {41, false}, {41, true},
		{3, false}, {3, false}, {13, false}, {13, true}, // most have gone, others come
	} {
		if over := w.over(look.now); over != look.over {
			t.Errorf("look %d, at %d: %v", i, look.now, over)
		}
	}
}
