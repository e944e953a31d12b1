package mpeg

import (
	"encoding/binary"
	"math"
)

// GainSteps is how many steps of GainStepDB come nearest to dB.
func GainSteps(dB float64) int {
	if math.IsNaN(dB) {
		return 0
	}
	return int(math.Round(min(max(dB/GainStepDB, -GainMax), GainMax)))
}

// ChangeGain adds steps of GainStepDB to the gains of a frame, if b holds them all:
// header, checksum and side information. What is silent stays as it is.
func ChangeGain(h *Header, b []byte, steps int) {
	end := h.SideEnd()
	side := end - h.SideBytes()
	if len(b) < end {
		return
	}
	// The gain is behind part2_3_length and big_values.
	const gainAt = 12 + 9
	// main_data_begin and private_bits, and in MPEG-1 scfsi
	at, length := 8+h.Channels, 63
	if h.Version == V1 {
		at, length = 9+7-2*h.Channels+4*h.Channels, 59
	}
	for range h.Samples / GranuleLines * h.Channels {
		bit := side*8 + at
		at += length
		if binary.BigEndian.Uint32(b[bit/8:])<<(bit%8)>>20 == 0 {
			continue // silent: nothing is coded
		}
		bit += gainAt
		window := b[bit/8:][:2]
		shift := 8 - bit%8
		word := int(binary.BigEndian.Uint16(window))
		gain := min(max(word>>shift&GainMax+steps, 0), GainMax)
		binary.BigEndian.PutUint16(window, uint16(word&^(GainMax<<shift)|gain<<shift))
	}
	if h.CRC {
		crc := CRC16(CRC16(math.MaxUint16, b[2:HeaderBytes]), b[side:end])
		binary.BigEndian.PutUint16(b[HeaderBytes:], crc)
	}
}

// CRC16 is the checksum of ISO 11172-3 2.4.3.1 over b, begun with crc.
func CRC16(crc uint16, b []byte) uint16 {
	const polynomial = 0x8005
	for _, v := range b {
		crc ^= uint16(v) << 8
		for range 8 {
			carry := crc & 0x8000
			crc <<= 1
			if carry != 0 {
				crc ^= polynomial
			}
		}
	}
	return crc
}
