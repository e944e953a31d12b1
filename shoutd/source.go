package shoutd

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"carillon/library"
)

const (
	// claimWait bounds how long a source waits for its answer. Until then the
	// caller's audio is lost and FreeSWITCH's channel is stuck, so a clear 503
	// is better than a late 200.
	claimWait = 5 * time.Second
	// lostFlushBytes is what a FreeSWITCH that buffers file writes sends of a
	// recording shorter than its buffer: six frames of silence
	// (freeswitch-wire.md 2.5). It is worth a warning, for the audio is lost.
	lostFlushBytes = 864
	// deafAgent begins the User-Agent of libavformat. It never reads the
	// answer to a SOURCE (-legacy_icecast), and closing with an unread answer
	// is a reset that throws away what it has not sent yet. It is answered at
	// the end; if it had to be answered before (Config.DeafWait), a reset is how
	// it takes its leave, as a FIN is for others.
	deafAgent = "Lavf/"
)

// errSilence, errStopped and errDiscarded say why a source was cut.
var (
	errSilence   = errors.New("source is silent")
	errStopped   = errors.New("server is closing")
	errDiscarded = errors.New("recording was ended")
)

// source is one live source.
type source struct {
	conn       *conn
	session    Session
	mount      string
	credential credential
	password   credential // alone
	admitted   bool       // guarded by the server's mu
	bytes      int64
	// cut is why the source is ended from here; nil while it is not.
	cut  atomic.Pointer[error]
	deaf bool // it never reads an answer
}

// credential is a digest of a source's login, so that none is kept in memory
// and all compare in the same time.
type credential [sha256.Size]byte

// credentialOf is the login of a request, as the line of SHOUTcast has it.
func credentialOf(r *request) credential { return secretOf(r.user + ":" + r.password) }

func secretOf(text string) credential { return sha256.Sum256([]byte(text)) }

func (c credential) equal(d credential) bool { return subtle.ConstantTimeCompare(c[:], d[:]) == 1 }

// source serves SOURCE and PUT, and says whether the connection is kept.
func (c *conn) source(ctx context.Context, r *request) bool {
	if !r.authorized {
		return c.unauthorized(r) // a probe, whatever its other headers say
	}
	src, err := c.claim(ctx, r)
	if err != nil {
		status := statusOf(err)
		c.server.log.Info("source refused", "remote", c.remote(), "target", shownTarget(r.target),
			"user", shown(r.user), "status", status, "error", err)
		c.refuse(r, status)
		return false
	}
	src.run(ctx, r)
	return false
}

// claim turns the request into a live source.
func (c *conn) claim(ctx context.Context, r *request) (*source, error) {
	if !r.basic {
		return nil, library.ErrUnauthorized
	}
	if r.method == methodPut && r.length == 0 && !r.chunked {
		return nil, &headError{http.StatusBadRequest, "empty body"}
	}
	mount, _, err := r.path()
	if err != nil {
		return nil, err
	}
	src := &source{
		conn: c, mount: mount, credential: credentialOf(r), password: secretOf(r.password),
		deaf: r.method == methodSource && strings.HasPrefix(r.userAgent, deafAgent),
	}
	return src, c.claimAs(ctx, src, library.SourceRequest{
		Mount:       mount,
		User:        r.user,
		Password:    r.password,
		ContentType: r.contentType,
		ICY:         r.icy,
		RemoteAddr:  c.remote(),
	})
}

// claimAs claims for src, which is one of the server's sources from then on.
func (c *conn) claimAs(ctx context.Context, src *source, r library.SourceRequest) error {
	if !c.server.begin(src) {
		return library.ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	session, err := c.server.library.Claim(ctx, r)
	if err != nil {
		c.server.end(src)
		return err
	}
	src.session = session
	if r.PasswordOnly {
		src.mount = session.Recording().Name
	}
	c.server.admit(src) // others may look at it from here
	return nil
}

// run takes the source's bytes until it leaves, and seals.
func (s *source) run(ctx context.Context, r *request) {
	s.runWith(ctx, r, func() (bool, error) { return s.answer(r) })
}

// runWith is run for a source that is let in by begin, which says whether that
// was the final answer.
func (s *source) runWith(ctx context.Context, r *request, begin func() (final bool, err error)) {
	m := s.conn.server.metrics
	m.sourcesLive.Inc()
	defer m.sourcesLive.Dec()
	defer s.conn.server.end(s)

	began := time.Now()
	answered, err := begin()
	if err == nil {
		err = s.watched(ctx, r)
	}
	how, why := library.EndedClean, "end of stream"
	if err != nil {
		how, why = library.EndedCut, err.Error()
	}
	sealErr := s.seal(ctx, how)
	s.report(r, how, why, time.Since(began), sealErr)
	if answered {
		return
	}
	switch {
	case err != nil:
		s.conn.refuse(r, cutStatus(err))
	case sealErr != nil:
		s.conn.refuse(r, statusOf(sealErr))
	default:
		_ = s.conn.send([]byte(answerStored))
		s.conn.linger()
	}
}

// answer lets the source begin, and says whether that was the final answer.
// SOURCE and a PUT that asked for nothing are told 200 at once; a client that
// asked for 100 or announced its end waits for the 200 after it. An HTTP/1.0
// client that asks must not be told (RFC 9110 10.1.1), but for liquidsoap: it
// says HTTP/1.0, sends until it leaves, and takes a 200 for a refusal.
func (s *source) answer(r *request) (final bool, err error) {
	switch {
	case s.deaf && s.talks():
		return false, nil
	case r.method == methodSource:
		return true, s.conn.send([]byte(answerSource))
	case r.expect && (r.http11 || framingOf(r) == untilFIN):
		return false, s.conn.send([]byte(answerContinue))
	case framingOf(r) == untilFIN:
		return true, s.conn.send([]byte(answerPut))
	}
	return false, nil
}

// talks says whether the source sends without having heard an answer.
func (s *source) talks() bool {
	if s.conn.in.buffered() > 0 {
		return true
	}
	s.conn.in.deadline(time.Now().Add(s.conn.server.cfg.DeafWait))
	return s.conn.in.fill() == nil
}

// watched receives while a second goroutine waits for reasons to stop.
func (s *source) watched(ctx context.Context, r *request) error {
	s.conn.release() // from here a closing server seals first
	finished := make(chan struct{})
	defer close(finished)
	s.conn.server.wg.Go(func() {
		select {
		case <-finished:
		case <-s.session.Done():
			s.stop(errDiscarded)
		case <-ctx.Done():
			s.stop(errStopped)
		}
	})
	pacer, err := newPacer(s.conn.tcp, s.conn.server.cfg.SourceSilence)
	if err != nil {
		return err
	}
	s.conn.in.pacer = pacer
	defer func() {
		s.conn.in.pacer = nil
		pacer.close()
	}()
	return s.receive(newBody(s.conn.in, r))
}

// stop ends the read that the source waits in. The end of input that it makes
// is not the client's.
func (s *source) stop(why error) {
	if s.cut.CompareAndSwap(nil, &why) {
		_ = s.conn.tcp.CloseRead()
	}
}

// receive moves bytes from the connection to the session. Nil means that the
// stream ended as its framing says.
func (s *source) receive(b *body) error {
	received := s.conn.server.metrics.sourceBytes
	for {
		p, err := b.next()
		if why := s.cut.Load(); why != nil {
			return *why
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case s.deaf && errors.Is(err, syscall.ECONNRESET):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errSilence
		case err != nil:
			return err
		}
		s.bytes += int64(len(p))
		received.Add(float64(len(p)))
		if _, err := s.session.Write(p); err != nil {
			return err
		}
	}
}

// seal outlives the server's context: what arrived before Close is kept.
func (s *source) seal(ctx context.Context, how library.Ending) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.conn.server.cfg.SealWait)
	defer cancel()
	return s.session.Close(ctx, how)
}

func (s *source) report(r *request, how library.Ending, why string, took time.Duration, sealErr error) {
	m, ending := s.conn.server.metrics, "clean"
	if how == library.EndedCut {
		ending = "cut"
	}
	m.sources.WithLabelValues(ending).Inc()
	log := s.conn.server.log.With("remote", s.conn.remote(), "mount", shown(s.mount),
		"recording_id", s.session.Recording().ID, "user_agent", shown(r.userAgent))
	log.Info("source ended", "ending", ending, "reason", why, "bytes", s.bytes, "duration", took)
	if sealErr != nil {
		log.Error("recording not sealed yet", "error", sealErr)
	}
	if s.bytes == lostFlushBytes {
		log.Warn("recording holds only silence: set enable_file_write_buffering=false in FreeSWITCH")
	}
}

// cutStatus is the final answer to a client whose body was cut, should it
// still listen.
func cutStatus(err error) int {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return statusOf(library.ErrIncomplete)
	case errors.Is(err, errFraming), errors.Is(err, errLineTooLong):
		return http.StatusBadRequest
	case errors.Is(err, errSilence):
		return http.StatusRequestTimeout
	case errors.Is(err, errDiscarded):
		return statusOf(library.ErrState)
	case errors.Is(err, errStopped):
		return statusOf(library.ErrUnavailable)
	}
	return statusOf(err)
}
