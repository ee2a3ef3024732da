// Prepares the browser's storage before Dash reads it: it may be blocked, missing, or hold what another version left.
(() => {
  const PREFIX = "_dash_persistence."; // of what Dash remembers of a control: [value, value in the layout] as JSON

  const inMemory = () => {
    const kept = new Map();
    return {
      get length() {
        return kept.size;
      },
      key: (index) => [...kept.keys()][index] ?? null,
      getItem: (name) => kept.get(name) ?? null,
      setItem: (name, value) => void kept.set(name, String(value)),
      removeItem: (name) => void kept.delete(name),
      clear: () => kept.clear(),
    };
  };

  const isReadable = (text) => {
    try {
      const values = JSON.parse(text);
      return Array.isArray(values) && [1, 2].includes(values.length) && values.every((value) => Object(value) !== value);
    } catch {
      return false;
    }
  };

  const dropUnreadable = (storage) => {
    const names = Array.from({ length: storage.length }, (_, index) => storage.key(index));
    for (const name of names) {
      if (name.startsWith(PREFIX) && !isReadable(storage.getItem(name))) storage.removeItem(name);
    }
  };

  for (const kind of ["localStorage", "sessionStorage"]) {
    try {
      dropUnreadable(window[kind]);
    } catch {
      Object.defineProperty(window, kind, { value: inMemory(), configurable: true });
    }
  }
})();
