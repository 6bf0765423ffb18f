<<head>>
// Run: k6 run k6.js; against another address: k6 run -e BASE_URL=https://staging.example.org k6.js
import http from "k6/http";
import { check } from "k6";

// This machine unless told otherwise: load is for a site of one's own.
const BASE_URL = __ENV.BASE_URL || "http://127.0.0.1:<<port>>";
const HOST = __ENV.BASE_URL ? null : <<host>>;

// From <<source>>.
const ROUTES = [
<<routes>>
];
const TOTAL = ROUTES.reduce((sum, route) => sum + route.weight, 0);

export const options = {
  scenarios: {
    site: {
      // Open loop: requests start at their time, however slow the answers are.
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE || <<rate>>),
      timeUnit: "1s",
      duration: __ENV.DURATION || "1m",
      preAllocatedVUs: 20,
      maxVUs: 500,
    },
  },
  thresholds: {
    // No hot page fails, whatever happens to the app.
    "checks{kind:hot}": ["rate==1"],
    "http_req_duration{kind:hot}": ["p(99)<<<hot_p_ms>>"],
    // Of the rest one in a hundred may.
    "checks{kind:cold}": ["rate>0.99"],
    "http_req_duration{kind:cold}": ["p(95)<<<cold_p_ms>>"],
  },
};

function pick() {
  let left = Math.random() * TOTAL;
  for (const route of ROUTES) {
    left -= route.weight;
    if (left < 0) return route;
  }
  return ROUTES[ROUTES.length - 1];
}

export default function () {
  const route = pick();
  const path = route.paths[Math.floor(Math.random() * route.paths.length)];
  const kind = route.hot ? "hot" : "cold";
  const answer = http.get(BASE_URL + path, {
    headers: HOST ? { Host: HOST } : {},
    redirects: 0,
    tags: { name: route.name, kind: kind },
  });
  const isRight = route.hot ? (r) => r.status === 200 : (r) => r.status > 0 && r.status < 500;
  check(answer, { "answered": isRight }, { kind: kind });
}
