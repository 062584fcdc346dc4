export { applyChanges } from './changes.ts';
export { parseRunConfig } from './image-config.ts';
export { openImages, type ImageStore, type ImagesOptions } from './images.ts';
export { familiarName, parseReference, withDefaultTag, type Reference } from './reference.ts';
export { readStore } from './metadata.ts';
