//! What runs inside a guest: the public nouveau DRM interface, without libdrm.
