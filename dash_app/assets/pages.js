// The callbacks of the frame and of several pages that need no server.
window.dash_clientside = window.dash_clientside || {};
Object.assign(window.dash_clientside, {
  shell: {
    // Returns the path of the page to show, which may have changed while the script of the tables was loading.
    pageToShow: async (path, pages) => {
      if (pages[path]?.has_tables) await window.loadTables(); // in tables.js
      return window.location.pathname;
    },
    nameWindow: (path, pages) => {
      document.title = `${pages[path]?.label ?? "Page not found"} · Make Us Rich`;
    },
  },

  controls: {
    followLink: (id, search, data, value) => {
      const known = data.map((item) => item.value);
      const wanted = [new URLSearchParams(search).get("interval"), value];
      // the value all the same, because what follows from it is not called at the start after a no_update
      return wanted.find((interval) => known.includes(interval)) ?? known[0];
    },
    keepToValues: (id, value, values, otherwise) => (values.includes(value) ? value : otherwise),
  },

  models: {
    rememberChoice: (pair, interval, intervals) => window.rememberChoice("/models", pair, interval, intervals),
  },

  admin: {
    tabOfAddress: (_, [list], tab) => {
      const wanted = new URLSearchParams(location.search).get("tab");
      return list.props.children.some((each) => each.props.value === wanted) ? wanted : tab;
    },
    rememberTab: (tab) => {
      if (location.pathname === "/admin") history.replaceState(null, "", `/admin?tab=${tab}`);
    },
  },
});
