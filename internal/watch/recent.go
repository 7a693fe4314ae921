package watch

import "container/list"

// recent orders clients by when something was last heard of them.
type recent struct {
	order  *list.List // of client IDs, the latest first
	places map[string]*list.Element
}

func newRecent() *recent { return &recent{order: list.New(), places: map[string]*list.Element{}} }

func (r *recent) touch(id string) {
	if place := r.places[id]; place != nil {
		r.order.MoveToFront(place)
		return
	}
	r.places[id] = r.order.PushFront(id)
}

// trim takes away those beyond most, the one that was silent for longest first.
func (r *recent) trim(most int, forget func(id string)) {
	for r.order.Len() > most {
		last := r.order.Back()
		id := last.Value.(string)
		r.order.Remove(last)
		delete(r.places, id)
		forget(id)
	}
}
