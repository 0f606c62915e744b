// Package arch holds the tests of the project's shape: who may import whom, that
// every package says what it owns, and the sizes of files and functions. It has no
// code of its own. Read arch_test.go.
package arch
