package api

// checkE2EE refuses what cannot be had. With e2ee the clients encrypt what they publish
// with a key that the service never sees (docs/security.md).
func (c *createRequest) checkE2EE(f *faults) {
	switch {
	case !c.Recording:
	case c.E2EE:
		f.add("/recording", "cannot be had with e2ee: the service has no key to what it would record")
	default:
		f.add("/recording", "is not offered by this deployment")
	}
}
