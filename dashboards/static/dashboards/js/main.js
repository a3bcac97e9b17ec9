/** The one entry point: every behaviour of the pages, each in its own module. */
import "./refresh.js";
import "./shortcuts.js";
import "./steady.js";
import "./sync.js";
import "./charts.js";
import "./changes_only.js";
import "./wrote.js";
