const functions = (window.dashMantineFunctions = window.dashMantineFunctions || {});

functions.labelOf = (value, { labels }) => labels[value - 1];

// Options of pairs that begin with what was typed come first: every pair of USDT has an "s".
functions.pairsByStart = ({ options, search, limit = Infinity }) => {
  const plain = (text) => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  const typed = plain(search);
  const found = options.filter((option) => plain(option.label).includes(typed));
  const starts = (option) => Number(plain(option.label).startsWith(typed));
  return found.sort((one, other) => starts(other) - starts(one)).slice(0, limit);
};
