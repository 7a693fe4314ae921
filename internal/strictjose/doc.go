// Package strictjose reads JOSE as strangers write it: JSON that every parser
// reads alike, base64url with one encoding, public keys that are what they seem,
// and signatures over both. What could be read in two ways, or is weak, is
// refused, where go-jose and encoding/json are lenient.
//
// It trusts nobody, and decides nothing: which algorithms, keys and claims are
// good is its caller's to say. No error holds what was read, but for the names of
// members.
package strictjose
