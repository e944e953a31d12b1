// Package relay owns the way of a live recording to those who listen to it
// while it is made, whatever door they come through: one reader of the recording
// for all of them on this node, where each begins, and what he is sent of the
// past before he hears with the others. It does not know how a listener asks,
// nor what his answer's head looks like.
package relay
