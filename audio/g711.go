package audio

// G.711 as in the ITU-T software tool library (G.191): the low bits that a code
// has no room for are cut, which is what the decision values of tables 1 and 2
// of G.711 amount to, and negative values are taken by their one's complement.

const (
	mulawBias = 33
	mulawMax  = 0x1FFF
)

// mulawEncode is the µ-law code of a sample.
func mulawEncode(v int16) byte {
	magnitude := int(v)
	if v < 0 {
		magnitude = int(^v)
	}
	magnitude = min(magnitude>>2+mulawBias, mulawMax)
	segment := 1
	for i := magnitude >> 6; i != 0; i >>= 1 {
		segment++
	}
	code := byte(8-segment)<<4 | byte(0xF-magnitude>>segment&0xF)
	if v >= 0 {
		code |= 0x80
	}
	return code
}

// mulawDecode is the sample that a µ-law code stands for.
func mulawDecode(code byte) int16 {
	code = ^code
	v := int16((int(code&0xF)<<1+mulawBias)<<(code>>4&7)-mulawBias) << 2
	if code&0x80 != 0 {
		return -v
	}
	return v
}

// alawToggle: every other bit of an A-law code is sent inverted.
const alawToggle = 0x55

// alawEncode is the A-law code of a sample.
func alawEncode(v int16) byte {
	magnitude := int(v) >> 4
	if v < 0 {
		magnitude = int(^v) >> 4
	}
	if magnitude > 15 {
		exponent := 1
		for magnitude > 31 {
			magnitude >>= 1
			exponent++
		}
		magnitude += exponent<<4 - 16
	}
	if v >= 0 {
		magnitude |= 0x80
	}
	return byte(magnitude) ^ alawToggle
}

// alawDecode is the sample that an A-law code stands for.
func alawDecode(code byte) int16 {
	code ^= alawToggle
	v := int(code&0xF)<<4 + 8
	if exponent := code >> 4 & 7; exponent > 0 {
		v = (v + 0x100) << (exponent - 1)
	}
	if code&0x80 == 0 {
		return int16(-v)
	}
	return int16(v)
}
