package providers

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// OptionNames is the names of the options of each strategy, with those inside of lists
// and objects, sorted: what the documents have to explain.
func OptionNames() map[string][]string {
	all := map[string][]string{}
	known := slices.Collect(maps.Keys(strategies))
	for _, name := range gothNames() {
		known = append(known, gothPrefix+name)
	}
	for _, name := range known {
		st, _ := strategyOf(name)
		names := map[string]bool{}
		collectNames(reflect.TypeOf(st.options()), names)
		all[name] = slices.Sorted(maps.Keys(names))
	}
	return all
}

func collectNames(t reflect.Type, names map[string]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			collectNames(f.Type, names)
		case name != "" && name != "-":
			names[name] = true
			collectNames(f.Type, names)
		}
	}
}
