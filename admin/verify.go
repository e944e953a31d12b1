package admin

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"carillon/blobstore"
	"carillon/internal/web"
	"carillon/library"
	"carillon/library/naming"
)

// verified is an item with what each of its copies is.
type verified struct {
	Account  string `json:"account"`
	ID       string `json:"id"`
	Revision uint64 `json:"revision"`
	Size     int64  `json:"content_length"`
	SHA256   string `json:"sha256"`
	// Whole says that every copy that should be there is, and is right.
	Whole bool `json:"whole"`
	blobstore.Verification
}

// verifyMedia lets every replica read and hash its copy of an item. It is not
// cheap: each reads the whole sound. An id that holds a slash is escaped here,
// as everywhere below /v1.
func (s *Server) verifyMedia(c echo.Context) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	id, err := web.Param(c, "id")
	if err == nil {
		err = naming.CheckID(id)
	}
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	doc, err := s.deps.Library.Get(ctx, account, id, library.Fresh)
	if err != nil {
		return err
	}
	if s.deps.Verify == nil {
		return library.ErrUnavailable
	}
	v, err := s.deps.Verify(ctx, doc.Blob)
	if err != nil {
		return err
	}
	answer := verified{
		Account: account, ID: id, Revision: doc.Revision, Size: doc.Size, SHA256: doc.SHA256, Verification: v,
		Whole: v.OK >= v.Wanted,
	}
	for _, r := range v.Replicas {
		// A copy that was sealed as something else than the document says would
		// be whole and wrong.
		answer.Whole = answer.Whole && (r.State != blobstore.ReplicaOK || r.SHA256 == doc.SHA256)
	}
	return sendJSON(c, http.StatusOK, answer)
}
