package rows

import (
	"errors"

	"carillon/blobstore"
)

// Change collects the rows of one commit. It belongs to one goroutine.
type Change struct {
	Txn blobstore.Txn
	err error
}

// Urgent marks a change that a recording needs, see [blobstore.Txn].
func (c *Change) Urgent() { c.Txn.Urgent = true }

// Expect makes the change depend on the revision of a row; 0: there is none.
func (c *Change) Expect(key string, revision uint64) {
	c.Txn.If = append(c.Txn.If, blobstore.Cond{Key: key, Revision: revision})
}

// Put writes a row.
func (c *Change) Put(key string, value []byte) {
	c.Txn.Put = append(c.Txn.Put, blobstore.Row{Key: key, Value: value})
}

// Remove deletes a row if it is there.
func (c *Change) Remove(key string) { c.Txn.Delete = append(c.Txn.Delete, key) }

// Append writes a row whose key is the prefix and the log position of the
// commit.
func (c *Change) Append(prefix string, value []byte) {
	c.Txn.Append = append(c.Txn.Append, blobstore.Row{Key: prefix, Value: value})
}

// Fail notes what makes the change impossible; nil is nothing.
func (c *Change) Fail(err error) { c.err = errors.Join(c.err, err) }

// Done is the change as it can be committed, or why it cannot be.
func (c *Change) Done() (blobstore.Txn, error) { return c.Txn, c.err }
