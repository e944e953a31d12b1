package library

import "carillon/library/feed"

// event adds an event to what the change commits.
func (c *change) event(kind feed.Kind, e feed.Event) { feed.Add(c.Change, kind, e) }

// mediaEvent is what is said of a document; the revision is that of the commit.
func mediaEvent(d *Document) feed.Event {
	return feed.Event{
		Account: d.Account, ID: d.ID, SHA256: d.SHA256, Size: d.Size, DurationMS: d.DurationMS,
	}
}

// recordingEvent is what is said of a recording; the revision is that of the
// commit.
func recordingEvent(r *Recording) feed.Event {
	return feed.Event{
		Account: r.Account, ID: r.Item, RecordingID: r.ID, SHA256: r.SHA256, Size: r.Size,
		DurationMS: r.DurationMS, Node: r.Node,
	}
}
