package templates

// Challenge is what tells people from programs, within a form: the part "challenge" of
// parts.html. Pages with it put the part "challenge-script" into their block "scripts". The
// form sends challenge_id, challenge_kind and challenge_answer.
type Challenge struct {
	// ID goes into a hidden field.
	ID string
	// Kind is "work", which the script does by itself, "image" or "audio".
	Kind string
	// Salt, Bits and Count are what the work is; see challenge.Puzzle.
	Salt        string
	Bits, Count int
	// Image is a PNG, Audio a WAV, in base64; one is empty, or both.
	Image, Audio string
	// Source is where the script asks for another one.
	Source string
	// ImageURL and AudioURL are this page with a challenge of that kind, for who has no
	// JavaScript.
	ImageURL, AudioURL string
	// Error says what was wrong with the answer before; its field is "challenge".
	Error *FieldError
}
