package web

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"login-server/identity"
	"login-server/templates"
)

// What the profile page offers to choose from. Both claims may have other values, from
// providers or the command line; then those are offered as well.

// otherLanguages are those that have a name of their own, in their own words, each followed
// by its variants; of those with the same name the first.
var otherLanguages = sync.OnceValue(func() []templates.Choice {
	var choices []templates.Choice
	named, place := map[string]bool{}, map[string]string{}
	for _, tag := range display.Supported.Tags() {
		if name := display.Self.Name(tag); name != "" && !named[name] {
			named[name] = true
			base, _ := tag.Base()
			place[name] = strings.ToLower(display.Self.Name(language.Make(base.String())) + "\x00" + name)
			choices = append(choices, templates.Choice{Value: tag.String(), Label: name, Lang: tag.String()})
		}
	}
	slices.SortStableFunc(choices, func(a, b templates.Choice) int {
		return cmp.Compare(place[a.Label], place[b.Label])
	})
	return choices
})

// languageChoices are languages: those of the pages first.
func languageChoices(pages []templates.Language, value string) []templates.ChoiceGroup {
	first := templates.ChoiceGroup{Title: &templates.Message{ID: "choice_pages"}}
	offered := map[string]bool{"": true}
	for _, l := range pages {
		offered[l.Tag] = true
		first.Choices = append(first.Choices, templates.Choice{Value: l.Tag, Label: l.Name, Lang: l.Tag})
	}
	others := templates.ChoiceGroup{Title: &templates.Message{ID: "choice_languages"}}
	for _, c := range otherLanguages() {
		if !offered[c.Value] {
			offered[c.Value] = true
			others.Choices = append(others.Choices, c)
		}
	}
	groups := []templates.ChoiceGroup{first, others}
	if offered[value] {
		return groups
	}
	own := templates.Choice{Value: value, Label: value}
	if tag, err := language.Parse(value); err == nil {
		if name := display.Self.Name(tag); name != "" {
			own.Label = name + " (" + value + ")"
		}
	}
	return append([]templates.ChoiceGroup{{Choices: []templates.Choice{own}}}, groups...)
}

// zoneRegions are the names of the regions of the tz database.
var zoneRegions = map[string]string{
	"Africa": "zone_africa", "America": "zone_america", "Antarctica": "zone_antarctica", "Arctic": "zone_arctic", "Asia": "zone_asia", "Atlantic": "zone_atlantic",
	"Australia": "zone_australia", "Europe": "zone_europe", "Indian": "zone_indian", "Pacific": "zone_pacific", "Etc": "zone_etc",
}

var placeName = strings.NewReplacer("_", " ", "/", " – ")

// zones are all time zones to choose from, by region.
var zones = sync.OnceValue(func() []templates.ChoiceGroup {
	var groups []templates.ChoiceGroup
	for _, region := range identity.Zones() {
		group := templates.ChoiceGroup{Title: &templates.Message{ID: zoneRegions[region.Name]}}
		for _, place := range region.Places {
			group.Choices = append(group.Choices, templates.Choice{Value: region.Name + "/" + place, Label: placeName.Replace(place)})
		}
		groups = append(groups, group)
	}
	return groups
})

// zoneChoices are time zones by region.
func zoneChoices(value string) []templates.ChoiceGroup {
	for _, group := range zones() {
		if value == "" || slices.ContainsFunc(group.Choices, func(c templates.Choice) bool { return c.Value == value }) {
			return zones()
		}
	}
	return append([]templates.ChoiceGroup{{Choices: []templates.Choice{{Value: value, Label: placeName.Replace(value)}}}}, zones()...)
}
