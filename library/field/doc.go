// Package field owns how it is told what is wrong with the fields of a request:
// all of them at once, each by its JSON name with a code for programs and a text
// for people, and the checks that are the same for fields everywhere. What a
// field means, and what else is asked of it, says whoever takes the request.
package field
