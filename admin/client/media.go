package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"carillon/blobstore"
	"carillon/library"
)

// Progress is told how many bytes of total have passed; total is -1 when
// unknown. It is called from the goroutine of the transfer and must be quick.
type Progress func(done, total int64)

// copyBytes is one read of a transfer: large enough that progress is called
// rarely, small enough that a bar moves.
const copyBytes = 128 << 10

// PutMedia stores body as {account}/{id} and says whether it was new. Size is
// the body's length, or -1 when unknown. Of opts, ContentType, the conditions
// and the descriptive fields are sent. Progress may be nil.
func (c *Client) PutMedia(ctx context.Context, account, id string, body io.Reader, size int64,
	opts library.PutOptions, progress Progress,
) (library.Document, bool, error) {
	counted := io.Reader(io.NopCloser(body))
	if progress != nil {
		counted = &progressReader{body, 0, size, progress}
	}
	if size == 0 {
		counted = http.NoBody // else net/http takes 0 for unknown
	}
	req, err := c.request(ctx, http.MethodPut, "/media/"+itemPath(account, id), putQuery(opts), counted)
	if err != nil {
		return library.Document{}, false, err
	}
	req.ContentLength = size
	if size < 0 || size >= expectBytesMin {
		req.Header.Set("Expect", "100-continue")
	}
	for name, v := range map[string]string{
		"Content-Type": opts.ContentType, "If-Match": opts.IfMatch, "If-None-Match": opts.IfNoneMatch,
	} {
		if v != "" {
			req.Header.Set(name, v)
		}
	}
	for k, v := range opts.Metadata {
		req.Header.Set("X-Carillon-Meta-"+k, url.PathEscape(v))
	}
	resp, err := c.do(req)
	if err != nil {
		return library.Document{}, false, err
	}
	created := resp.StatusCode == http.StatusCreated
	var doc library.Document
	err = decode(resp, &doc)
	return doc, created, err
}

func putQuery(opts library.PutOptions) url.Values {
	q := url.Values{}
	for name, v := range map[string]string{
		"name": opts.Name, "description": opts.Description, "language": opts.Language, "prompt_id": opts.Prompt,
		"media_source": opts.Source, "source_id": opts.SourceID, "source_type": opts.SourceType,
		"class": string(opts.Class),
	} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if opts.TTS != nil {
		q.Set("tts_text", opts.TTS.Text)
		q.Set("tts_voice", opts.TTS.Voice)
	}
	if opts.Streamable != nil {
		q.Set("streamable", strconv.FormatBool(*opts.Streamable))
	}
	return q
}

// GetMedia writes the item's bytes to w and returns how many. It checks what
// came against the length and the digest that the server named, and returns
// blobstore.ErrCorrupt or io.ErrUnexpectedEOF when they differ; w has them
// then. Progress may be nil.
func (c *Client) GetMedia(
	ctx context.Context, account, id string, w io.Writer, progress Progress,
) (int64, error) {
	req, err := c.request(ctx, http.MethodGet, "/media/"+itemPath(account, id), nil, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	src := io.Reader(resp.Body)
	if progress != nil {
		src = &progressReader{src, 0, resp.ContentLength, progress}
	}
	sum := sha256.New()
	n, err := io.CopyBuffer(plainWriter{io.MultiWriter(w, sum)}, src, make([]byte, copyBytes))
	if err != nil {
		return n, fmt.Errorf("transfer of %s/%s: %w", account, id, err)
	}
	// A recording in progress has no digest yet.
	want := strings.Trim(resp.Header.Get("ETag"), `"`)
	if want != "" && want != hex.EncodeToString(sum.Sum(nil)) {
		return n, fmt.Errorf("transfer of %s/%s: digest differs: %w", account, id, blobstore.ErrCorrupt)
	}
	return n, nil
}

// plainWriter hides ReadFrom, which would choose its own buffer.
type plainWriter struct{ io.Writer }

// ListMedia yields the documents of an account in the order of their ids,
// page by page. Q.Limit is the size of a page. It ends after the first error.
func (c *Client) ListMedia(
	ctx context.Context, account string, q library.ListQuery,
) iter.Seq2[library.Document, error] {
	return func(yield func(library.Document, error) bool) {
		for {
			page, err := c.Page(ctx, account, q)
			if err != nil {
				yield(library.Document{}, err)
				return
			}
			for _, doc := range page.Items {
				if !yield(doc, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.After = page.Next
		}
	}
}

// Page returns one page of a listing.
func (c *Client) Page(ctx context.Context, account string, q library.ListQuery) (library.Page, error) {
	v := query(q.Limit, map[string]string{
		"prefix": q.Prefix, "after": q.After, "language": q.Language, "prompt": q.Prompt, "name": q.Name,
		"class": string(q.Class),
	})
	if q.Deleted {
		v.Set("deleted", "true")
	}
	var page library.Page
	err := c.call(ctx, http.MethodGet, "/v1/accounts/"+url.PathEscape(account)+"/media", v, nil, &page)
	return page, err
}

// Info returns the document of {account}/{id}.
func (c *Client) Info(ctx context.Context, account, id string) (library.Document, error) {
	var doc library.Document
	err := c.call(ctx, http.MethodGet, documentPath(account, id), nil, nil, &doc)
	return doc, err
}

// Update changes the editable fields of a document.
func (c *Client) Update(ctx context.Context, account, id string, p library.Patch) (library.Document, error) {
	var doc library.Document
	err := c.callIf(ctx, http.MethodPatch, documentPath(account, id), nil, p.IfMatch, "", p, &doc)
	return doc, err
}

// Remove deletes {account}/{id}.
func (c *Client) Remove(ctx context.Context, account, id string) error {
	return c.call(ctx, http.MethodDelete, "/media/"+itemPath(account, id), nil, nil, nil)
}

// Lookup asks where a name is played.
func (c *Client) Lookup(ctx context.Context, r library.LookupRequest) (library.Lookup, error) {
	v := url.Values{}
	for name, s := range map[string]string{
		"name": r.Name, "account": r.Account, "language": r.Language, "stream": r.Stream, "protocol": r.Protocol,
		"player": string(r.Player), "consistency": string(r.Consistency),
	} {
		if s != "" {
			v.Set(name, s)
		}
	}
	var found library.Lookup
	err := c.call(ctx, http.MethodGet, "/v1/lookup", v, nil, &found)
	return found, err
}

// itemPath escapes an item's name; slashes in the id stay slashes.
func itemPath(account, id string) string {
	segments := strings.Split(id, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return url.PathEscape(account) + "/" + strings.Join(segments, "/")
}

func documentPath(account, id string) string {
	return "/v1/accounts/" + url.PathEscape(account) + "/media/" + url.PathEscape(id)
}

// progressReader tells how far a transfer is.
type progressReader struct {
	io.Reader
	done, total int64
	progress    Progress
}

func (r *progressReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.done += int64(n)
		r.progress(r.done, r.total)
	}
	return n, err
}
