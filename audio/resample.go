package audio

import (
	"math"

	"carillon/audio/layer3"
)

// The filter of the resampler: a sinc of resampleZeros zero crossings to each
// side under a Kaiser window. Its figures are in DESIGN.md, and a test measures
// them.
const (
	resampleZeros = 32
	// resampleCut is the middle of the transition, of the lower of the two
	// Nyquist frequencies: the stop band begins there at about 1.
	resampleCut = 0.92
	// resampleBeta makes the stop band 80 dB deep.
	resampleBeta = 7.857
	// resamplePhasesMax is how many phases are tabled exactly; it is enough
	// for any two of the usual rates (11025 to 192000 has 2560). With more,
	// the filter is interpolated between resamplePhasesMany.
	resamplePhasesMax  = 2560
	resamplePhasesMany = 512
	// resampleBlock is how many samples a channel of the buffer has beyond
	// the filter.
	resampleBlock = 1024
)

// resampler changes the rate of samples that are written to it, without delay:
// output sample k stands for the moment k·down/up of the input. Before its
// begin and behind its end the input is silent.
type resampler struct {
	channels int
	up, down int64
	half     int // samples of input on each side of a moment
	phases   int
	exact    bool
	filter   []float32 // phases (and one more when not exact) of 2·half

	// buf are the last samples of each channel, of which the first is sample
	// base of the input; n of them are there.
	buf  [][]float32
	base int64
	n    int
	// at is the input sample before the next output, frac/up what is beyond.
	at, frac int64
	tail     int // silence that was appended behind the end
}

func newResampler(in, out, channels int) *resampler {
	g := gcd(in, out)
	r := &resampler{channels: channels, up: int64(out / g), down: int64(in / g)}
	cut := min(1, float64(out)/float64(in))
	r.half = int(math.Ceil(resampleZeros / cut))
	r.phases, r.exact = int(r.up), r.up <= resamplePhasesMax
	tabled := r.phases
	if !r.exact {
		r.phases = resamplePhasesMany
		tabled = r.phases + 1
	}
	r.filter = make([]float32, tabled*2*r.half)
	window := newKaiser()
	values := make([]float64, 2*r.half)
	for phase := range tabled {
		r.makePhase(window, values, float64(phase)/float64(r.phases), cut*resampleCut)
		for i, v := range values {
			r.filter[phase*len(values)+i] = float32(v)
		}
	}
	r.buf = make([][]float32, channels)
	for c := range r.buf {
		r.buf[c] = make([]float32, 2*r.half+resampleBlock)
	}
	r.seek(0)
	return r
}

// makePhase fills in the filter for a moment that is frac behind a sample. Its
// sum is put to 1, so that a constant stays one.
func (r *resampler) makePhase(window *kaiser, filter []float64, frac, cut float64) {
	sum := 0.0
	for i := range filter {
		t := float64(i-r.half+1) - frac
		filter[i] = cut * sinc(cut*t) * window.at(t/float64(r.half))
		sum += filter[i]
	}
	for i := range filter {
		filter[i] /= sum
	}
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// kaiser is half of the window, finely enough to take it for straight between
// two points (2e-6 at the most, 114 dB below): its series takes long, and the
// first bytes of a form wait for it.
type kaiser [1025]float64

func newKaiser() *kaiser {
	k := &kaiser{}
	top := bessel(resampleBeta)
	for i := range k {
		x := float64(i) / float64(len(k)-1)
		k[i] = bessel(resampleBeta*math.Sqrt(1-x*x)) / top
	}
	return k
}

// at is the window at x from -1 to 1.
func (k *kaiser) at(x float64) float64 {
	position := math.Abs(x) * float64(len(k)-1)
	i := int(position)
	if i >= len(k)-1 {
		return 0
	}
	return k[i] + (k[i+1]-k[i])*(position-float64(i))
}

// bessel is the modified Bessel function of the first kind of order zero.
func bessel(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= x / (2 * k) * x / (2 * k)
		sum += term
	}
	return sum
}

// seek makes output sample k the next, and returns the sample of the input to
// be written next.
func (r *resampler) seek(k int64) (input int64) {
	// Whole periods first: k·down alone could overflow.
	r.at, r.frac = k/r.up*r.down+k%r.up*r.down/r.up, k%r.up*r.down%r.up
	r.base = r.at - int64(r.half) + 1
	r.n, r.tail = 0, 0
	if r.base < 0 {
		for c := range r.buf {
			clear(r.buf[c][:-r.base])
		}
		r.n = int(-r.base)
	}
	return r.base + int64(r.n)
}

// room is how many frames write takes now. read makes room.
func (r *resampler) room() int { return len(r.buf[0]) - r.n }

// write takes frames, at most as many as there is room for.
func (r *resampler) write(pcm []int16) {
	for c, buf := range r.buf {
		to := r.n
		for i := c; i < len(pcm); i += r.channels {
			buf[to] = float32(pcm[i])
			to++
		}
	}
	r.n += len(pcm) / r.channels
}

// finish appends silence, of which the filter can have half its length, and
// says whether there is more that it may have.
func (r *resampler) finish() bool {
	n := min(r.half-r.tail, r.room())
	for c := range r.buf {
		clear(r.buf[c][r.n : r.n+n])
	}
	r.n += n
	r.tail += n
	return n > 0
}

// read fills pcm with frames as far as the input reaches, and returns how many.
func (r *resampler) read(pcm []int16) int {
	frames := 0
	for ; (frames+1)*r.channels <= len(pcm); frames++ {
		first := int(r.at - int64(r.half) + 1 - r.base)
		if first+2*r.half > r.n {
			break
		}
		for c := range r.channels {
			pcm[frames*r.channels+c] = layer3.Round16(r.sample(r.buf[c][first : first+2*r.half]))
		}
		r.frac += r.down
		r.at += r.frac / r.up
		r.frac %= r.up
	}
	r.forget()
	return frames
}

// forget moves what is still needed to the front of the buffers.
func (r *resampler) forget() {
	first := int(min(r.at-int64(r.half)+1-r.base, int64(r.n)))
	if first < resampleBlock/2 {
		return
	}
	for _, buf := range r.buf {
		copy(buf, buf[first:r.n])
	}
	r.base += int64(first)
	r.n -= first
}

func (r *resampler) sample(in []float32) float32 {
	if r.exact {
		return dot(in, r.filter[int(r.frac)*2*r.half:])
	}
	position := float64(r.frac) * float64(r.phases) / float64(r.up)
	phase := int(position)
	a := dot(in, r.filter[phase*2*r.half:])
	b := dot(in, r.filter[(phase+1)*2*r.half:])
	return a + (b-a)*float32(position-float64(phase))
}

// dot multiplies in with as many values of filter. Eight at a time, in four sums,
// is a third faster than anything that the compiler checks more often.
func dot(in, filter []float32) float32 {
	filter = filter[:len(in)]
	var a, b, c, d float32
	i := 0
	for ; i+8 <= len(in); i += 8 {
		x, y := (*[8]float32)(in[i:]), (*[8]float32)(filter[i:])
		a += x[0]*y[0] + x[4]*y[4]
		b += x[1]*y[1] + x[5]*y[5]
		c += x[2]*y[2] + x[6]*y[6]
		d += x[3]*y[3] + x[7]*y[7]
	}
	for ; i < len(in); i++ {
		a += in[i] * filter[i]
	}
	return a + b + c + d
}
