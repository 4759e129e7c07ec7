//go:build !linux

package main

import "errors"

type crowd struct{}

func watch([]*socket) (*crowd, error) { return nil, errors.New("this measurement needs Linux") }

func (*crowd) hear([]byte) error { return nil }
