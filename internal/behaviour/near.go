package behaviour

import "slices"

// near is which networks of a platform are used side by side: a process that is started
// anew may come to be in another zone of its data centre, where its client has never
// been and many others have. It counts clients, for the networks that most have.
type near struct {
	Day      int64      `json:"day"`
	Networks []nearUsed `json:"networks,omitempty"`
}

type nearUsed struct {
	Name    string  `json:"name"`
	Clients int64   `json:"clients"`        // in sixteenths, less a 64th a day
	With    []int64 `json:"with,omitempty"` // how many of them have each of Networks too
}

const (
	nearMax = 24
	// Where this many clients have a network, and a third of them another one too, the
	// way from one to the other is a usual one.
	nearClients = 8
	nearShare   = 3
)

func (n *near) sound() bool {
	if len(n.Networks) > nearMax || n.Day < 0 {
		return false
	}
	for i := range n.Networks {
		if len(n.Networks[i].With) != len(n.Networks) {
			return false
		}
	}
	return true
}

func (n *near) index(name string) int {
	return slices.IndexFunc(n.Networks, func(u nearUsed) bool { return u.Name == name })
}

// learnNear notes that a client has come to have a network beside those that it has.
func (f *Fleet) learnNear(b *Baseline, name string, at int64) {
	n := &f.near
	f.changed = true
	n.age(at / day)
	me := n.index(name)
	if me < 0 {
		if me = n.admit(name); me < 0 {
			return
		}
	}
	n.Networks[me].Clients += oneUse
	for i := range b.networks.entries {
		e := &b.networks.entries[i]
		if e.marked != 0 || e.name == name {
			continue
		}
		if other := n.index(e.name); other >= 0 {
			n.Networks[me].With[other] += oneUse
			n.Networks[other].With[me] += oneUse
		}
	}
}

// admit makes room for a network, in the place of one that few have.
func (n *near) admit(name string) int {
	if len(n.Networks) < nearMax {
		for i := range n.Networks {
			n.Networks[i].With = append(n.Networks[i].With, 0)
		}
		n.Networks = append(n.Networks, nearUsed{Name: name, With: make([]int64, len(n.Networks)+1)})
		return len(n.Networks) - 1
	}
	least := 0
	for i := range n.Networks {
		if n.Networks[i].Clients < n.Networks[least].Clients {
			least = i
		}
	}
	if n.Networks[least].Clients > 2*oneUse {
		return -1
	}
	for i := range n.Networks {
		n.Networks[i].With[least] = 0
	}
	n.Networks[least] = nearUsed{Name: name, With: make([]int64, nearMax)}
	return least
}

func (n *near) age(today int64) {
	days := min(today-n.Day, 30)
	n.Day = max(n.Day, today)
	for range days {
		for i := range n.Networks {
			u := &n.Networks[i]
			u.Clients -= u.Clients / 64
			for j := range u.With {
				u.With[j] -= u.With[j] / 64
			}
		}
	}
}

// neighbours tells whether a network is one that clients with this one's networks
// usually have too.
func (s *sight) neighbours(name string) bool {
	n := &s.w.fleet.near
	me := n.index(name)
	if me < 0 {
		return false
	}
	for i := range s.b.networks.entries {
		e := &s.b.networks.entries[i]
		if e.marked != 0 {
			continue
		}
		other := n.index(e.name)
		if other >= 0 && n.Networks[other].Clients >= nearClients*oneUse && n.Networks[other].With[me]*nearShare >= n.Networks[other].Clients {
			return true
		}
	}
	return false
}
