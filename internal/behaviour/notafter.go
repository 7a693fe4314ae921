package behaviour

import "time"

// NotAfter tells what time it is: events that say to be of a later moment count as of
// now. Unlike Tick it does not tell that all events up to now have been observed, as
// they have not while whoever feeds the Watch catches up.
func (w *Watch) NotAfter(now time.Time) { w.ceiling = now.Unix() }
