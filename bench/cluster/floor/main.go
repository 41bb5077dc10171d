// The least that a cold start can take: a static server that does nothing. What it needs is the platform's.
package main

import (
	"log"
	"net"
	"net/http"
)

func main() {
	log.Print("began")
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	log.Print("Application startup complete")
	log.Fatal(http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		answer.WriteHeader(http.StatusNoContent)
	})))
}
