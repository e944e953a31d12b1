package main

import (
	"bytes"
	"fmt"
	"time"

	"carillon/audio"
	"carillon/audio/layer3"
)

const (
	// The demo's sound is that of a telephone: 8 kHz mono, and MP3 at the bit
	// rate that FreeSWITCH records with.
	demoRate    = 8000
	demoBitRate = 16000
	// sampleLength is a greeting's.
	sampleLength = 6 * time.Second

	// demoWelcome is the greeting that the tour stores, demoSong what whoever
	// tries the demo is told to store.
	demoWelcome = "greetings/welcome.mp3"
	demoSong    = "music/song.mp3"
)

// sampleAudio makes a WAV and an MP3: something to store without asking anyone
// for a file.
func sampleAudio() ([]sample, error) {
	tune := audio.Melody(demoRate, sampleLength)
	var wav bytes.Buffer
	if err := audio.WriteWAV(&wav, tune, demoRate, 1); err != nil {
		return nil, fmt.Errorf("make a WAV: %w", err)
	}
	mp3, err := layer3.Encode(tune, demoRate, demoBitRate)
	if err != nil {
		return nil, fmt.Errorf("make an MP3: %w", err)
	}
	return []sample{{"greetings/welcome.wav", wav.Bytes()}, {demoWelcome, mp3}}, nil
}

// sampleCall is what a caller says: MP3 frames as mod_shout sends them.
func sampleCall(length time.Duration) ([]byte, error) {
	mp3, err := layer3.Encode(audio.Sine(demoRate, 440, 0.3, length), demoRate, demoBitRate)
	if err != nil {
		return nil, fmt.Errorf("make a call: %w", err)
	}
	return mp3, nil
}
