package templates

// ProfilePicture is the picture of the signed-in person as the profile page shows it.
type ProfilePicture struct {
	// Path is where it is below Base; empty if it is elsewhere, or there is none.
	Path string
	// Elsewhere is the host that a picture is at which is not shown; empty if there is none.
	Elsewhere string
	// Source says who it is from; nil when there is none.
	Source *Message
	// Removable: there is a picture, and it can be taken back.
	Removable bool
	// Offered is the name of a provider whose picture can be used in its place; may be empty.
	Offered string
	Error   *FieldError
}

// ChoiceGroup is some of the values of a field that belong together; Title is nil for
// those that belong to nothing.
type ChoiceGroup struct {
	Title   *Message
	Choices []Choice
}

// Choice is a value to choose. Lang is the language of the label if it is another than that
// of the page.
type Choice struct{ Value, Label, Lang string }
