// Package forms keeps converted sound: a file for each form of each content,
// bounded in bytes, checked when it is read, made once for all who ask for it
// at the same time. It does not know what is converted into what; a [Recipe]
// does. What it keeps can be made again at any time, so it is never fsynced,
// and gives way when the disk is full.
package forms
