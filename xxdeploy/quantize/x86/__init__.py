"""16-bit saturation on x86 processors without VNNI."""
