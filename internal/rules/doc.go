// Package rules holds no code, only the tests that keep the rules of the house
// which no linter knows: who may import whom, where package comments stand,
// what must not be called, and that the documents tell the truth. Whoever runs
// the tests runs the rules.
package rules
