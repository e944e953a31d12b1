package disktest

import "github.com/hashicorp/raft-wal/types"

// Disk is a file layer of raft-wal that asks before each write and each sync of a file. An
// error is that operation's, which then does nothing; nil: nobody is asked. Both may be called
// from several goroutines at a time.
type Disk struct {
	types.VFS // what is below

	BeforeWrite, BeforeSync func() error
}

var _ types.VFS = (*Disk)(nil)

// Create makes a file of that size.
func (d *Disk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := d.VFS.Create(dir, name, size)
	return file{f, d}, err //nolint:wrapcheck // a layer over a layer
}

// OpenWriter opens a file that is there.
func (d *Disk) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := d.VFS.OpenWriter(dir, name)
	return file{f, d}, err //nolint:wrapcheck // as above
}

type file struct {
	types.WritableFile

	disk *Disk
}

func (f file) WriteAt(p []byte, at int64) (int, error) {
	if err := asked(f.disk.BeforeWrite); err != nil {
		return 0, err
	}
	return f.WritableFile.WriteAt(p, at) //nolint:wrapcheck // as above
}

func (f file) Sync() error {
	if err := asked(f.disk.BeforeSync); err != nil {
		return err
	}
	return f.WritableFile.Sync() //nolint:wrapcheck // as above
}

func asked(before func() error) error {
	if before == nil {
		return nil
	}
	return before()
}
