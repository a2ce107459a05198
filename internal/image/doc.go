// Package image is the store of images on disk: stacks of read-only root file system layers with a name.
//
//	DIR/NAME/image.json   the record; an image exists when this file does
//	DIR/NAME/rootfs/      its topmost layer
//	DIR/.tmp-*            images that are being made; removed when they are older than a day
//
// A layer is written once, under a temporary name, and never changes after the rename. Owners inside are the image's own
// (0 is its root); the driver shifts them for each instance. DIR is for root alone, because it holds set-user-id programs.
//
// Whatever comes from outside (archives, OCI layouts) is unpacked through os.Root, with bounds on count and size, so that
// no name or link in it reaches out of the layer. The package starts no goroutines of its own.
package image
