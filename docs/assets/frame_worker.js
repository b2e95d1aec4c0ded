// A browser starts no worker for a page that was opened from a disk. Search needs one: here it runs in a hidden frame.
if (location.protocol === "file:") {
  // the theme's worker asks for this name to find its languages
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const scope = frame.contentWindow;
      const load = (url) => new Promise((resolve, reject) => {
        const script = scope.document.createElement("script");
        Object.assign(script, { src: url, onload: resolve, onerror: () => reject(new Error(`${url} cannot be read`)) });
        scope.document.head.append(script);
      });
      scope.importScripts = (...urls) => urls.reduce((before, url) => before.then(() => load(url)), Promise.resolve());
      scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.terminate = () => frame.remove();
      const loaded = load(new URL(address, location.href).href);
      this.postMessage = (data) => loaded.then(() => scope.dispatchEvent(new scope.MessageEvent("message", { data })));
    }
  };
}
