package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"carillon/library"
	"carillon/library/backup"
	"carillon/library/restore"
)

// backupLineBytesMax bounds a line of the rows' stream: a row in base64.
const backupLineBytesMax = 1 << 20

// HoldBackup keeps removed items from being freed until the time that the answer
// names. An empty hold makes one; again with the same prolongs it.
func (c *Client) HoldBackup(ctx context.Context, hold string) (backup.Hold, error) {
	var h backup.Hold
	path := "/v1/backup"
	if hold != "" {
		path += "/" + url.PathEscape(hold)
	}
	err := c.call(ctx, http.MethodPost, path, nil, nil, &h)
	return h, err
}

// ReleaseBackup ends a hold.
func (c *Client) ReleaseBackup(ctx context.Context, hold string) error {
	return c.call(ctx, http.MethodDelete, "/v1/backup/"+url.PathEscape(hold), nil, nil, nil)
}

// BackupRows yields the rows of the catalog as they were at one log position,
// which is valid when the loop has ended without an error. Rows that were not
// changed after since come without their value.
func (c *Client) BackupRows(ctx context.Context, since uint64) (
	rows iter.Seq2[backup.Row, error], position *uint64,
) {
	position = new(uint64)
	return func(yield func(backup.Row, error) bool) {
		err := c.backupRows(ctx, since, position, func(r backup.Row) bool { return yield(r, nil) })
		if err != nil && !errors.Is(err, errStopped) {
			yield(backup.Row{}, err)
		}
	}, position
}

// errStopped ends a loop whose body has had enough.
var errStopped = errors.New("stopped")

func (c *Client) backupRows(
	ctx context.Context, since uint64, position *uint64, yield func(backup.Row) bool,
) (err error) {
	q := url.Values{"since": {strconv.FormatUint(since, 10)}}
	req, err := c.request(ctx, http.MethodGet, "/v1/backup", q, nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, backupLineBytesMax)
	for n := int64(-1); lines.Scan(); n++ {
		var l backup.Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("line %d of the catalog: %w", n+2, err)
		}
		switch {
		case n < 0 && l.Format != backup.Format:
			return fmt.Errorf("catalog in format %d, this program reads %d: %w", l.Format, backup.Format,
				library.ErrBadRequest)
		case n < 0:
		case l.End && l.Rows != n:
			return fmt.Errorf("%d of %d rows of the catalog: %w", n, l.Rows, io.ErrUnexpectedEOF)
		case l.End:
			*position = l.Position
			return nil
		case !yield(l.Row()):
			return errStopped
		}
	}
	return fmt.Errorf("catalog: %w", errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}

// BackupBlob opens a blob from offset on. The caller must close the body.
func (c *Client) BackupBlob(ctx context.Context, id string, offset int64) (
	backup.Blob, io.ReadCloser, error,
) {
	var spec backup.Blob
	q := url.Values{"offset": {strconv.FormatInt(offset, 10)}}
	req, err := c.request(ctx, http.MethodGet, "/v1/backup/blobs/"+url.PathEscape(id), q, nil)
	if err != nil {
		return spec, nil, err
	}
	resp, err := c.do(req)
	if err != nil {
		return spec, nil, err
	}
	if err := json.Unmarshal([]byte(resp.Header.Get(backup.BlobHeader)), &spec); err != nil {
		return spec, nil, errors.Join(fmt.Errorf("header %s: %w", backup.BlobHeader, err), resp.Body.Close())
	}
	return spec, resp.Body, nil
}

// BeginRestore prepares an empty cluster, or with merge any, for a backup.
func (c *Client) BeginRestore(ctx context.Context, source string, merge bool) (restore.Begun, error) {
	var b restore.Begun
	err := c.call(ctx, http.MethodPost, "/v1/restore", nil,
		restore.Begin{Source: source, Merge: merge}, &b)
	return b, err
}

// EndRestore says that everything has been restored.
func (c *Client) EndRestore(ctx context.Context) error {
	return c.call(ctx, http.MethodDelete, "/v1/restore", nil, nil, nil)
}

// RestoreBlob sends a blob, unless the cluster has it: then its body is not read,
// if it is large.
func (c *Client) RestoreBlob(ctx context.Context, spec backup.Blob, body io.Reader) (
	sent bool, err error,
) {
	text, err := json.Marshal(spec)
	if err != nil {
		return false, fmt.Errorf("describe blob %s: %w", spec.ID, err)
	}
	if spec.Size == 0 {
		body = http.NoBody
	}
	req, err := c.request(ctx, http.MethodPut, "/v1/restore/blobs/"+url.PathEscape(spec.ID), nil, body)
	if err != nil {
		return false, err
	}
	req.ContentLength = spec.Size
	req.Header.Set(backup.BlobHeader, string(text))
	req.Header.Set("Content-Type", "application/octet-stream")
	if spec.Size >= expectBytesMin {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := c.do(req)
	if err != nil {
		return false, err
	}
	return resp.StatusCode == http.StatusCreated, resp.Body.Close()
}

// RestoreRows writes rows that belong together.
func (c *Client) RestoreRows(ctx context.Context, rows []backup.Row, merge bool) (
	restore.Report, error,
) {
	in := restore.Batch{Merge: merge, Rows: make([]backup.Line, len(rows))}
	for i, r := range rows {
		in.Rows[i] = r.Line()
	}
	var out restore.Report
	err := c.call(ctx, http.MethodPost, "/v1/restore/rows", nil, in, &out)
	return out, err
}
