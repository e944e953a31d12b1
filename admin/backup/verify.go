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
	d.verifyRows(g, report)
	next, stop := iter.Pull2(references(d.rows(g)))
	defer stop()
	refs := pending{d: d, next: next, g: g, report: report}
	refs.advance()
	for spec, err := range d.blobs(g) {
		if ctx.Err() != nil {
			return ctx.Err() //nolint:wrapcheck // the caller's own
		}
		if err != nil {
			report.problem(g, err)
			break
		}
		refs.upTo(spec.ID)
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
	refs.upTo("")
	return nil
}

// pending are the references of a generation, beside its list of blobs.
type pending struct {
	d      *Dir
	next   func() (reference, error, bool)
	g      Generation
	report *Report
	ref    reference
	err    error
	more   bool
}

func (p *pending) advance() { p.ref, p.err, p.more = p.next() }

// upTo passes references up to that of id; those before it have no blob. "": all.
func (p *pending) upTo(id string) {
	for p.more && p.err == nil && (id == "" || p.ref.id < id) {
		p.d.unlisted(p.g, p.ref, p.report)
		p.advance()
	}
	if p.more && p.err == nil && p.ref.id == id {
		p.advance()
	}
}

// verifyRows checks that the rows are those that were written, in their order.
func (d *Dir) verifyRows(g Generation, report *Report) {
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
}

// unlisted is a reference to a blob that the generation does not have: a
// recording that was discarded while the backup was taken, or damage.
func (d *Dir) unlisted(g Generation, ref reference, report *Report) {
	if len(ref.holder) > 3 && ref.holder[:3] == "m1/" {
		report.problem(g, fmt.Errorf("blob %s of %q is missing: %w", ref.id, ref.holder, ErrDamaged))
	}
}
