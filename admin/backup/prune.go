package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
)

// prune removes the oldest generations and the blobs that only they had.
func (d *Dir) prune(keep int) error {
	if keep <= 0 || len(d.manifest.Generations) <= keep {
		return nil
	}
	cut := len(d.manifest.Generations) - keep
	dropped := d.manifest.Generations[:cut]
	d.manifest.Generations = append([]Generation{}, d.manifest.Generations[cut:]...)
	if err := d.save(); err != nil {
		return err
	}
	for _, g := range dropped {
		if err := d.dropBlobs(g); err != nil {
			return err
		}
		for _, what := range []string{"catalog", "deleted", "blobs"} {
			if err := os.Remove(d.file(g.name(what))); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove old backup: %w", err)
			}
		}
	}
	return nil
}

// dropBlobs removes the blobs of g that no generation has any more.
func (d *Dir) dropBlobs(g Generation) error {
	others := make([]func(id string) (bool, error), 0, len(d.manifest.Generations))
	for _, kept := range d.manifest.Generations {
		next, stop := iter.Pull2(d.blobs(kept))
		defer stop() //nolint:gocritic // a few generations, all needed to the end
		spec, err, more := next()
		others = append(others, func(id string) (bool, error) {
			for more && err == nil && spec.ID < id {
				spec, err, more = next()
			}
			return more && spec.ID == id, err
		})
	}
	for spec, err := range d.blobs(g) {
		if err != nil {
			return err
		}
		used := false
		for _, has := range others {
			here, err := has(spec.ID)
			if err != nil {
				return err
			}
			used = used || here
		}
		if !used {
			if err := os.Remove(d.blobFile(spec.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove old blob: %w", err)
			}
		}
	}
	return nil
}
