// Package layer3 decodes and encodes MPEG audio layer III, frame by frame, in
// all three versions. Where frames are in a file, what tags say of them and what
// becomes of the samples is not its business.
package layer3
