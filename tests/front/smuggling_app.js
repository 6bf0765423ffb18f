// As smuggling_app.py, for Node.
const fs = require("node:fs");
const server = require("node:http").createServer((request, response) => {
  fs.appendFileSync(process.env.SEEN, `${JSON.stringify([request.method, decodeURIComponent(request.url.split("?")[0])])}\n`);
  request.resume().on("end", () => response.end("ok"));
});
server.on("upgrade", (request, socket) => socket.end("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"));
server.listen(Number(process.argv[2]), "127.0.0.1");
