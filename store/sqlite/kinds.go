package sqlite

import "context"

// Kinds lists the kinds of documents that there are, expired ones included, in order.
func (e *Engine) Kinds(ctx context.Context) ([]string, error) {
	var kinds []string
	kind, err := e.nextKind(ctx, "")
	for ; err == nil && kind != ""; kind, err = e.nextKind(ctx, kind) {
		kinds = append(kinds, kind)
	}
	return kinds, err
}
