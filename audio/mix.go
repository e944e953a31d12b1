package audio

// mixDown writes to out the frames of in with fewer channels: one is the mean
// of all; of two, left and right get what is on their side and the middle
// is shared, by the order of channels of WAV (FL FR FC LFE BL BR FLC FRC BC SL
// SR). Nothing can clip. Both may be the same slice.
func mixDown(out, in []int16, from, to int) int {
	frames := len(in) / from
	for i := range frames {
		frame := in[i*from:][:from]
		if to == 1 {
			out[i] = mean(frame)
			continue
		}
		left, right := fold(frame)
		out[2*i], out[2*i+1] = left, right
	}
	return frames
}

func mean(frame []int16) int16 {
	sum := 0
	for _, v := range frame {
		sum += int(v)
	}
	return divideRounded(sum, len(frame))
}

// fold makes two channels of three or more. What is in the middle counts half
// on both sides, the low frequency effects (fourth of six and more) not at all.
func fold(frame []int16) (left, right int16) {
	const (
		center    = 2
		effects   = 3
		centerOf9 = 8
	)
	var sum, weight [2]int
	for c, v := range frame {
		switch {
		case c == center && len(frame) != 4, c == centerOf9:
			sum[0] += int(v)
			sum[1] += int(v)
			weight[0]++
			weight[1]++
		case c == effects && len(frame) >= 6:
		default:
			side := c % 2
			switch {
			case c > centerOf9, c > center && len(frame) == 5:
				side = 1 - side // behind a middle one, odd ones are left
			}
			sum[side] += 2 * int(v)
			weight[side] += 2
		}
	}
	return divideRounded(sum[0], max(weight[0], 1)), divideRounded(sum[1], max(weight[1], 1))
}

func divideRounded(sum, n int) int16 {
	if sum < 0 {
		return int16(-((-sum + n/2) / n))
	}
	return int16((sum + n/2) / n)
}

// mixUp spreads the frames of one channel that pcm begins with over several.
func mixUp(pcm []int16, frames, to int) {
	for i := frames - 1; i >= 0; i-- {
		for c := range to {
			pcm[i*to+c] = pcm[i]
		}
	}
}
