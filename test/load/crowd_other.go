//go:build !linux

package main

import (
	"errors"
	"time"
)

type crowd struct{}

func watch([]*socket) (*crowd, error) { return nil, errors.New("this measurement needs Linux") }

func (*crowd) hear([]byte) (time.Time, error) { return time.Time{}, nil }
