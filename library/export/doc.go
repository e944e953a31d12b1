// Package export owns the orders to send sound to a URL: a durable queue that
// keeps the sound until its target has it, and is carried out once, by one node
// at a time. Where sound comes from and what becomes of it afterwards it does
// not know, nor how a request is sent.
package export
