//go:build !linux

package command

// calmThreads is for Linux only.
func calmThreads() {}
