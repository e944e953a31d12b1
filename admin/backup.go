package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"carillon/blobstore"
	"carillon/internal/web"
	"carillon/library"
	"carillon/library/backup"
	"carillon/library/restore"
)

const (
	// backupWriteWait bounds one write of a backup: the rows come from one view
	// of the catalog, which a client that stalls would keep for ever.
	backupWriteWait = 60 * time.Second
	// backupBufferBytes is one write of a backup.
	backupBufferBytes = 64 << 10
	// restoreBodyBytesMax bounds a batch of rows: values of a full transaction
	// in base64.
	restoreBodyBytesMax = 16 << 20
)

// backupLibrary is the part of the library that backups need.
type backupLibrary interface {
	BackupRows(ctx context.Context, since uint64) (iter.Seq2[backup.Row, error], *uint64)
	Hold(ctx context.Context, id string) (string, time.Time, error)
	Release(ctx context.Context, id string) error
	BackupBlob(ctx context.Context, id string) (*blobstore.Reader, error)
	BeginRestore(ctx context.Context, source string, merge bool) (bool, error)
	EndRestore(ctx context.Context) error
	RestoredBlob(ctx context.Context, spec backup.Blob) (bool, error)
	RestoreBlob(ctx context.Context, spec backup.Blob, body io.Reader) error
	RestoreRows(ctx context.Context, rows []backup.Row, merge bool) (restore.Report, error)
}

func (s *Server) backupRoutes(e *echo.Echo) {
	e.POST("/v1/backup", s.guarded("backup_hold", s.holdBackup))
	e.POST("/v1/backup/:hold", s.guarded("backup_hold", s.holdBackup))
	e.DELETE("/v1/backup/:hold", s.guarded("backup_release", s.releaseBackup))
	e.GET("/v1/backup", s.guarded("backup_rows", s.backupRows))
	e.GET("/v1/backup/blobs/:id", s.guarded("backup_blob", s.backupBlob))
	e.POST("/v1/restore", s.guarded("restore_begin", s.beginRestore))
	e.DELETE("/v1/restore", s.guarded("restore_end", s.endRestore))
	e.PUT("/v1/restore/blobs/:id", s.guarded("restore_blob", s.restoreBlob))
	e.POST("/v1/restore/rows", s.guarded("restore_rows", s.restoreRows))
}

func (s *Server) holdBackup(c echo.Context) error {
	id, until, err := s.deps.Library.Hold(c.Request().Context(), c.Param("hold"))
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, backup.Hold{ID: id, Until: until})
}

func (s *Server) releaseBackup(c echo.Context) error {
	if err := s.deps.Library.Release(c.Request().Context(), c.Param("hold")); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// backupRows is GET /v1/backup?since=POSITION: the catalog from one view, a line
// of JSON for each row, in order of the keys. Without the line that says so, it
// did not come to its end.
func (s *Server) backupRows(c echo.Context) error {
	q, err := newQuery(c.Request(), "since")
	if err != nil {
		return err
	}
	head := backup.Line{Format: backup.Format}
	if text := q.get("since"); text != "" {
		if head.Since, err = strconv.ParseUint(text, 10, 64); err != nil {
			return fmt.Errorf("since is a log position: %w", library.ErrBadRequest)
		}
	}
	rows, position := s.deps.Library.BackupRows(c.Request().Context(), head.Since)
	out := newBackupWriter(c, "application/x-ndjson")
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	if err := e.Encode(head); err != nil {
		return out.broken(err)
	}
	sent := int64(0)
	for row, err := range rows {
		if err == nil {
			err = e.Encode(row.Line())
		}
		if err != nil {
			return out.broken(err)
		}
		sent++
	}
	if err := e.Encode(backup.Line{End: true, Position: *position, Rows: sent}); err != nil {
		return out.broken(err)
	}
	return out.broken(out.Flush())
}

// backupBlob is GET /v1/backup/blobs/{id}?offset=N: the bytes of a blob from
// there on, as far as it goes, with its BlobHeader.
func (s *Server) backupBlob(c echo.Context) error {
	q, err := newQuery(c.Request(), "offset")
	if err != nil {
		return err
	}
	offset := int64(0)
	if text := q.get("offset"); text != "" {
		if offset, err = strconv.ParseInt(text, 10, 64); err != nil || offset < 0 {
			return fmt.Errorf("offset is a number of bytes: %w", library.ErrBadRequest)
		}
	}
	r, err := s.deps.Library.BackupBlob(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	spec := backup.BlobOf(r.Info())
	if offset > spec.Size {
		return fmt.Errorf("blob of %d bytes has no offset %d: %w", spec.Size, offset, library.ErrBadRequest)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("describe blob %s: %w", spec.ID, err)
	}
	c.Response().Header().Set(backup.BlobHeader, string(text))
	c.Response().Header().Set("Content-Length", strconv.FormatInt(spec.Size-offset, 10))
	out := newBackupWriter(c, "application/octet-stream")
	if _, err := r.WriteRange(out, offset, spec.Size-offset); err != nil {
		return out.broken(err)
	}
	return out.broken(out.Flush())
}

// backupWriter writes an answer of any length to a client that takes it.
type backupWriter struct {
	*bufio.Writer

	c echo.Context
}

func newBackupWriter(c echo.Context, contentType string) *backupWriter {
	c.Response().Header().Set("Content-Type", contentType)
	c.Response().Header().Set("Cache-Control", "no-store")
	patient := &patientWriter{c.Response(), http.NewResponseController(c.Response())}
	return &backupWriter{bufio.NewWriterSize(patient, backupBufferBytes), c}
}

// broken ends the connection of an answer that went wrong after it had begun:
// the client must not take what it has for the whole.
func (w *backupWriter) broken(err error) error {
	if err == nil || !w.c.Response().Committed {
		return err
	}
	panic(http.ErrAbortHandler)
}

// patientWriter gives each write its time.
type patientWriter struct {
	http.ResponseWriter

	control *http.ResponseController
}

// Write writes within backupWriteWait.
func (w *patientWriter) Write(p []byte) (int, error) {
	// A connection that takes no deadline (in a unit test) is not watched.
	_ = w.control.SetWriteDeadline(time.Now().Add(backupWriteWait))
	return w.ResponseWriter.Write(p) //nolint:wrapcheck // a writer around a writer
}

func (s *Server) beginRestore(c echo.Context) error {
	var in restore.Begin
	if err := readJSON(c, &in); err != nil {
		return err
	}
	ctx := c.Request().Context()
	again, err := s.deps.Library.BeginRestore(ctx, in.Source, in.Merge)
	if err != nil {
		return err
	}
	// What was restored and is not referred to yet must not be swept.
	id, until, err := s.deps.Library.Hold(ctx, "")
	if err != nil {
		return err
	}
	hold := backup.Hold{ID: id, Until: until}
	return sendJSON(c, http.StatusOK, restore.Begun{Hold: hold, Again: again})
}

func (s *Server) endRestore(c echo.Context) error {
	if err := s.deps.Library.EndRestore(c.Request().Context()); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// restoreBlob is PUT /v1/restore/blobs/{id} with a BlobHeader: 204 if the blob
// is there already and its body was not needed, else 201.
func (s *Server) restoreBlob(c echo.Context) error {
	r := c.Request()
	var spec backup.Blob
	err := json.Unmarshal([]byte(r.Header.Get(backup.BlobHeader)), &spec)
	if err != nil || spec.ID != c.Param("id") {
		return fmt.Errorf("header %s does not describe blob %.40q: %w", backup.BlobHeader, c.Param("id"),
			library.ErrBadRequest)
	}
	there, err := s.deps.Library.RestoredBlob(r.Context(), spec)
	if err != nil {
		return err
	}
	if there {
		return c.NoContent(http.StatusNoContent)
	}
	body := web.NewBody(c.Response(), r)
	if err := s.deps.Library.RestoreBlob(r.Context(), spec, body); err != nil {
		if body.Stalled() {
			return web.ErrBodyStalled
		}
		return err
	}
	return c.NoContent(http.StatusCreated)
}

func (s *Server) restoreRows(c echo.Context) error {
	var in restore.Batch
	body := io.LimitReader(web.NewBody(c.Response(), c.Request()), restoreBodyBytesMax)
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		return fmt.Errorf("rows: %w: %w", library.ErrBadRequest, err)
	}
	rows := make([]backup.Row, len(in.Rows))
	for i, l := range in.Rows {
		rows[i] = l.Row()
	}
	report, err := s.deps.Library.RestoreRows(c.Request().Context(), rows, in.Merge)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, report)
}
