// @grafana/ui takes this package's default export as bundlers for the web do; esbuild, as Node does, hands over the whole
// module instead.

import scrollbars from './node_modules/@grafana/ui/node_modules/react-custom-scrollbars-2/lib/index.js';

export default scrollbars.default;
