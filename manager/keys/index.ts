export { DataKeys, NO_DATA_KEYS, type DataKey } from './data-keys.ts';
export { KeyKeeper } from './key-keeper.ts';
export { formatUnlockKey, lockOf, parseUnlockKey, UNLOCK_KEY_BYTES, unlockKeyEntry } from './unlock-key.ts';
