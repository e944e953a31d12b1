package backup

import (
	"context"
	"fmt"
	"iter"
)

// problemsMax bounds the problems of a Report that are told one by one.
const problemsMax = 100

// Report is what a verification has found.
type Report struct {
	Generations int      `json:"generations"`
	Rows        int64    `json:"rows"`
	Blobs       int64    `json:"blobs"`
	Bytes       int64    `json:"bytes"`
	Problems    []string `json:"problems"`
	Damaged     int64    `json:"damaged"` // problems in all
}

func (r *Report) problem(g Generation, err error) {
	r.Damaged++
	if len(r.Problems) < problemsMax {
		r.Problems = append(r.Problems, fmt.Sprintf("generation %d: %v", g.Position, err))
	}
}

// Verify reads everything of the given generations and compares it with what was
// backed up. It needs no cluster. An error is a failure of the directory itself;
// what is damaged is in the Report.
func (d *Dir) Verify(ctx context.Context, generations []Generation, progress Progress) (Report, error) {
	report := Report{Problems: []string{}}
	total := int64(0)
	for _, g := range generations {
		total += g.Blobs
	}
	for _, g := range generations {
		if err := d.verifyOne(ctx, g, &report, func() {
			if progress != nil {
				progress(report.Blobs, total, report.Bytes)
			}
		}); err != nil {
			return report, err
		}
		report.Generations++
	}
	return report, nil
}

func (d *Dir) verifyOne(ctx context.Context, g Generation, report *Report, progress func()) error {
	rows, last := int64(0), ""
	for row, err := range d.rows(g) {
		if err == nil && rows > 0 && row.Key <= last {
			err = fmt.Errorf("row %q comes after %q: %w", row.Key, last, ErrDamaged)
		}
		if err != nil {
			report.problem(g, err)
			break
		}
		rows++
		last = row.Key
	}
	report.Rows += rows
	next, stop := iter.Pull2(references(d.rows(g)))
	defer stop()
	ref, rerr, more := next()
	for spec, err := range d.blobs(g) {
		if ctx.Err() != nil {
			return ctx.Err() //nolint:wrapcheck // the caller's own
		}
		if err != nil {
			report.problem(g, err)
			break
		}
		for more && rerr == nil && ref.id < spec.ID {
			d.unlisted(g, ref, report)
			ref, rerr, more = next()
		}
		if more && rerr == nil && ref.id == spec.ID {
			ref, rerr, more = next()
		}
		sum, err := hashFile(d.blobFile(spec.ID), spec.Size)
		if err == nil && sum != spec.SHA256 {
			err = fmt.Errorf("blob %s has SHA-256 %s, want %s: %w", spec.ID, sum, spec.SHA256, ErrDamaged)
		}
		if err != nil {
			report.problem(g, err)
		}
		report.Blobs++
		report.Bytes += spec.Size
		progress()
	}
	for more && rerr == nil {
		d.unlisted(g, ref, report)
		ref, rerr, more = next()
	}
	return nil
}

// unlisted is a reference to a blob that the generation does not have: a
// recording that was discarded while the backup was taken, or damage.
func (d *Dir) unlisted(g Generation, ref reference, report *Report) {
	if len(ref.holder) > 3 && ref.holder[:3] == "m1/" {
		report.problem(g, fmt.Errorf("blob %s of %q is missing: %w", ref.id, ref.holder, ErrDamaged))
	}
}
